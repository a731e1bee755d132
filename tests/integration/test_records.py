"""Every request that reached authentication has one record, which says how it ended."""

from datetime import UTC, datetime, timedelta

import pytest

from app.audit.search import AuditQuery, search_audit
from app.settings import MODEL_ID
from tests.support.answers import Answer, vllm_error
from tests.support.gateway import CHAT, RunningGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker


@pytest.mark.parametrize("stream", [True, False])
async def test_a_completed_request_is_recorded(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(
        Answer(
            ["Hello"], reasoning=["hm", "m"], prompt_tokens=11, cached_tokens=4, pace_seconds=0.01
        )
    )
    before = datetime.now(UTC) - timedelta(seconds=1)
    headers = {"user-agent": "tests/1", "x-request-id": "mine-7"}
    body = chat_body(stream=stream, model=MODEL_ID, max_tokens=99, temperature=0.9)
    response = await gateway.request("POST", CHAT, body=body, headers=headers)
    row = await gateway.audited(response.request_id)
    assert before < row.received_at < datetime.now(UTC) + timedelta(seconds=1)
    assert (row.route, row.key_id, row.tenant) == (CHAT, gateway.key_id, "acme")
    assert (row.model, row.stream, row.body_bytes) == (MODEL_ID, stream, len(body))
    assert (row.user_agent, row.client_request_id, row.client_ip) == (
        "tests/1",
        "mine-7",
        "127.0.0.1",
    )
    assert (row.parameters["max_tokens"], row.parameters["temperature"]) == (99, 0.9)
    assert (row.outcome, row.status, row.error_code) == ("completed", 200, None)
    assert row.finish_reason == "stop"
    assert (row.worker, row.attempts) == (worker.url.removeprefix("http://"), 1)
    usage = (row.prompt_tokens, row.completion_tokens, row.reasoning_tokens, row.cached_tokens)
    assert usage == (11, 3, 2, 4)
    assert row.usage_exact is True
    assert row.time_to_first_token_seconds is not None
    assert row.duration_seconds is not None
    assert 0 < row.time_to_first_token_seconds <= row.duration_seconds < 10


async def test_a_record_holds_nothing_of_what_was_said(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["ANSWERED"], reasoning=["THOUGHT"]))
    tool = {"type": "function", "function": {"name": "TOOL"}}
    response = await gateway.chat(messages=[{"role": "user", "content": "ASKED"}], tools=[tool])
    row = str(await gateway.audited(response.request_id))
    for text in ("ANSWERED", "THOUGHT", "ASKED", "TOOL", gateway.key):
        assert text not in row


async def test_a_refused_request_is_recorded(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await gateway.chat(temperature=5)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("refused", 400, "invalid_value")
    assert (row.key_id, row.worker, row.attempts) == (gateway.key_id, None, 0)
    assert (row.prompt_tokens, row.completion_tokens) == (0, 0)


async def test_a_failed_request_is_recorded(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(vllm_error(500, "no", kind="InternalServerError"))
    response = await gateway.chat()
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("failed", 502, "upstream_error")
    assert (row.worker, row.attempts) == (worker.url.removeprefix("http://"), 1)
    assert row.finish_reason is None


async def test_a_rate_limited_request_is_recorded(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(requests_per_minute=1)
    assert (await gateway.chat(key=key)).status == 200
    response = await gateway.chat(key=key)
    assert (response.status, response.error["code"]) == (429, "rate_limit_exceeded")
    assert response.error["type"] == "rate_limit_error"
    assert int(response.headers["retry-after"]) >= 1
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status) == ("refused", 429)
    assert len(worker.requests) == 1


async def test_a_running_request_gives_its_place_back_however_it_ends(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(concurrency=1)
    worker.answers(Answer(prefill_seconds=60))
    body = {"model": "qwythos", "messages": [{"role": "user", "content": "x"}]}
    async with gateway.raw() as client:
        await client.post(CHAT, key, body)
        request = await worker.received()
        assert (await gateway.chat(key=key)).status == 429
        client.leave()
        await worker.closed(request, within=1.0)
    await gateway.audited(request.header("x-request-id") or "")
    worker.answers(vllm_error(500, "no"), Answer())
    assert (await gateway.chat(key=key)).status == 502
    assert (await gateway.chat(key=key)).status == 200


async def test_no_request_is_recorded_twice_or_left_open(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def recorded(*, unfinished: bool = False) -> list[str]:
        query = AuditQuery(unfinished=unfinished)
        rows = await search_audit(gateway.engine, query, limit=1_000)
        return [row.request_id for row in rows.records]

    ids = []
    for fields in ({}, {"stream": True}, {"n": 99}, {"model": "gpt-4"}):
        ids.append((await gateway.chat(**fields)).request_id)
    ids.append((await gateway.request("GET", "/v1/models")).request_id)
    for request_id in ids:
        await gateway.audited(request_id)
    assert sorted(set(ids)) == sorted(request for request in await recorded() if request in ids)
    assert not set(ids) & set(await recorded(unfinished=True))


async def test_every_answer_has_an_id_of_its_own(gateway: RunningGateway) -> None:
    responses = [
        await gateway.chat(),
        await gateway.chat(stream=True),
        await gateway.chat(model="gpt-4"),
        await gateway.chat(key="sk-qw-wrong"),
        *[
            await gateway.request("GET", path)
            for path in ("/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json", "/no")
        ],
        await gateway.request("GET", CHAT),
    ]
    ids = [response.headers.getall("x-request-id") for response in responses]
    assert all(len(each) == 1 and each[0].startswith("req_") for each in ids)
    assert len({each[0] for each in ids}) == len(ids)


@pytest.mark.parametrize("claim", ["x" * 2_000, "gr\u00fc\u00df", "req_0"])
async def test_a_clients_own_id_is_recorded_and_never_taken_over(
    claim: str, gateway: RunningGateway
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    head += "content-type: application/json\r\n"
    body = chat_body()
    async with gateway.raw() as client:
        await client.send(
            head.encode()
            + b"x-request-id: "
            + claim.encode()
            + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        answer = await client.head()
    request_id = answer.headers["x-request-id"]
    assert request_id.startswith("req_")
    assert len(request_id) == len("req_") + 32
    row = await gateway.audited(request_id)
    assert row.client_request_id is not None
    assert len(row.client_request_id) <= 128
