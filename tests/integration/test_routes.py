"""The routes beside completions: models, documents, and what operators' machines ask."""

import re

from app.settings import MODEL_ID
from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker


async def test_models_are_the_full_name_and_the_alias(gateway: RunningGateway) -> None:
    response = await gateway.request("GET", "/v1/models")
    body = response.json
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == [MODEL_ID, "qwythos"]
    for model in body["data"]:
        assert set(model) == {"id", "object", "created", "owned_by"}
        assert (model["object"], model["owned_by"]) == ("model", "empero-ai")
        assert isinstance(model["created"], int)
    assert b"secret-path" not in response.body


async def test_one_model_is_found_by_its_name_with_a_slash(gateway: RunningGateway) -> None:
    for path in (MODEL_ID, MODEL_ID.replace("/", "%2F"), "qwythos"):
        response = await gateway.request("GET", f"/v1/models/{path}")
        assert response.status == 200
        assert response.json["id"] == path.replace("%2F", "/")


async def test_models_are_those_that_the_key_may_use(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(models=["qwythos"])
    body = (await gateway.request("GET", "/v1/models", key=key)).json
    assert [model["id"] for model in body["data"]] == ["qwythos"]
    response = await gateway.request("GET", f"/v1/models/{MODEL_ID}", key=key)
    assert (response.status, response.error["code"]) == (404, "model_not_found")


async def test_models_are_told_to_nobody_without_a_key(gateway: RunningGateway) -> None:
    for path in ("/v1/models", "/v1/models/qwythos", "/v1/models/gpt-4"):
        response = await gateway.request("GET", path, key="sk-qw-wrong")
        assert (response.status, response.error["code"]) == (401, "invalid_api_key")
        row = await gateway.audited(response.request_id)
        assert (row.outcome, row.status) == ("refused", 401)


async def test_the_openapi_document_describes_the_hot_route(gateway: RunningGateway) -> None:
    document = (await gateway.request("GET", "/openapi.json")).json
    operation = document["paths"][CHAT]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    name = schema["$ref"].rpartition("/")[2]
    properties = document["components"]["schemas"][name]["properties"]
    assert {"model", "messages", "stream", "max_tokens", "tools", "stop"} <= set(properties)
    assert {"200", "400", "401", "404", "413", "429", "503"} <= set(operation["responses"])
    assert set(operation["responses"]["200"]["content"]) == {
        "application/json",
        "text/event-stream",
    }
    assert operation["security"]
    assert "HTTPValidationError" not in str(operation)
    assert "/v1/models" in document["paths"]


async def test_alive_and_ready_are_two_things(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, probe_seconds=0.05)
    assert (await gateway.request("GET", "/readyz")).status == 200
    await worker.go_away()

    async def unready() -> bool | None:
        return True if (await gateway.request("GET", "/readyz")).status == 503 else None

    await eventually_found(unready, 20.0, "not ready without a worker")
    response = await gateway.request("GET", "/readyz")
    assert response.json["checks"]["workers"] is False
    assert (await gateway.request("GET", "/healthz")).status == 200


async def test_a_gateway_starts_before_its_workers(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    await worker.go_away()
    gateway = await start_gateway(worker, probe_seconds=0.05)
    assert (await gateway.request("GET", "/readyz")).status == 503
    await worker.come_back()

    async def ready() -> bool | None:
        return True if (await gateway.request("GET", "/readyz")).status == 200 else None

    await eventually_found(ready, 20.0, "ready once a worker is there")
    assert (await gateway.chat()).status == 200


async def test_metrics_count_what_was_served(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hello"], reasoning=["hm"], pace_seconds=0.005))
    await gateway.chat()
    await gateway.chat(stream=True)
    await gateway.chat(key="sk-qw-wrong")
    response = await gateway.request("GET", "/metrics")
    text = response.body.decode()
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(line.startswith(("gateway_", "python_", "process_")) for line in lines), lines
    requests = [line for line in lines if line.startswith("gateway_requests_total")]
    assert sum(float(line.split()[-1]) for line in requests) == 3
    for secret in (gateway.key, gateway.key_id, "acme"):
        assert secret not in text


async def test_a_request_while_draining_is_sent_elsewhere(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    gateway.drain.begin()
    response = await gateway.chat()
    assert (response.status, response.error["code"]) == (503, "server_shutting_down")
    assert response.headers["connection"] == "close"
    assert int(response.headers["retry-after"]) >= 1
    assert (await gateway.request("GET", "/readyz")).status == 503
    assert (await gateway.request("GET", "/healthz")).status == 200
    assert worker.requests == []


async def test_metrics_show_why_a_replica_takes_no_traffic(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """Nobody has to have asked /readyz: a replica without traffic has no errors that would tell."""
    gateway = await start_gateway(worker, probe_seconds=0.05)

    async def shown() -> dict[str, str]:
        page = (await gateway.request("GET", "/metrics")).body.decode()
        return dict(re.findall(r'gateway_ready\{check="(\w+)"\} (\S+)', page))

    checks = {"accepting", "workers", "audit", "database"}
    assert await shown() == dict.fromkeys(checks, "1.0")
    await worker.go_away()

    async def told() -> bool | None:
        return True if (await shown())["workers"] == "0.0" else None

    await eventually_found(told, 20.0, "the workers' check fails")
    gateway.drain.begin()
    assert await shown() == dict.fromkeys(checks, "1.0") | {"workers": "0.0", "accepting": "0.0"}


async def test_metrics_show_the_room_on_the_disk_of_the_spool(gateway: RunningGateway) -> None:
    async def room() -> float | None:
        page = (await gateway.request("GET", "/metrics")).body.decode()
        found = re.search(r"^gateway_audit_spool_free_bytes (\S+)", page, re.M)
        assert found
        return float(found[1]) or None

    assert await eventually_found(room, 20.0, "the disk was looked at") > 0


async def test_a_running_stream_ends_with_an_error_when_the_drain_is_over(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["word "] * 1_000, pace_seconds=0.02))
    body = {"model": "qwythos", "messages": HELLO, "stream": True}
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, body)
        head = await client.head()
        await client.chunk()
        gateway.drain.begin()
        await client.chunk()  # it goes on
        gateway.drain.expire()
        rest = b"".join(await client.chunks())
    assert b'"code":"server_shutting_down"' in rest
    assert rest.endswith(b"data: [DONE]\n\n")
    await worker.closed(worker.only, within=1.0)
    row = await gateway.audited(head.headers["x-request-id"])
    assert (row.outcome, row.error_code) == ("drained", "server_shutting_down")


async def test_a_running_folded_answer_is_a_503_when_the_drain_is_over(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=60))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, {"model": "qwythos", "messages": HELLO})
        await worker.received()
        gateway.drain.begin()
        gateway.drain.expire()
        head = await client.head()
        assert head.status == 503
        assert (await client.body(head))["error"]["code"] == "server_shutting_down"
    await worker.closed(worker.only, within=1.0)


async def test_the_documentation_is_behind_a_flood_guard(gateway: RunningGateway) -> None:
    assert (await gateway.request("GET", "/docs")).status == 200
    statuses = [(await gateway.request("GET", "/openapi.json")).status for _ in range(60)]
    assert (statuses[0], statuses[-1]) == (200, 429)
    assert (await gateway.request("GET", "/docs")).error["code"] == "rate_limit_exceeded"
    assert (await gateway.request("GET", "/healthz")).status == 200
