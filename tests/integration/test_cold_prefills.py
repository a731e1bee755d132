"""A prefill that is longer than a key or a request allows is refused before any GPU works."""

import json
from collections.abc import AsyncIterator

import openai
import pytest

from tests.support.answers import Answer
from tests.support.gateway import CHAT, Json, Response, RunningGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

HEADER = "x-gateway-max-cold-prefill-tokens"
ESTIMATE = "x-gateway-cold-prefill-tokens"
PROMPT_TOKENS = 10_000
LONG: list[Json] = [{"role": "user", "content": "word " * (PROMPT_TOKENS * 4 // 5)}]
FOLLOW_UP: list[Json] = [
    *LONG,
    {"role": "assistant", "content": "Hello there."},
    {"role": "user", "content": "Go on."},
]


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker(max_model_len=1_010_000) as worker:
        worker.prompt_tokens = PROMPT_TOKENS
        worker.answers(Answer(prompt_tokens=PROMPT_TOKENS))
        yield worker


async def ask(
    gateway: RunningGateway,
    messages: list[Json] = LONG,
    *,
    at_most: object = None,
    key: str | None = None,
    **fields: object,
) -> Response:
    headers = {} if at_most is None else {HEADER: str(at_most)}
    body = chat_body(messages=messages, **fields)
    return await gateway.request("POST", CHAT, body=body, key=key, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_refused_before_a_worker_is_asked(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await ask(gateway, at_most=1_000, stream=stream)
    assert response.status == 409
    error = response.error
    assert (error["code"], error["type"]) == ("cold_prefill_too_long", "invalid_request_error")
    assert error["param"] == "messages"
    tokens = int(response.headers[ESTIMATE])
    assert tokens == pytest.approx(PROMPT_TOKENS, rel=0.1)
    assert f"{tokens} tokens" in error["message"]
    assert "at most 1000 are" in error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert worker.requests == []
    assert "/tokenize" not in worker.paths
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.attempts) == ("refused", 409, 0)
    assert row.findings == {"cold_prefill": {"tokens": tokens, "limit_tokens": 1_000}}


async def test_nothing_is_refused_where_nobody_asked_for_it(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await ask(gateway)).status == 200
    assert "/tokenize" not in worker.paths


async def test_the_lower_of_the_key_and_the_request_holds(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(max_cold_prefill_tokens=1_000)
    for at_most in (None, 1_000_000):
        response = await ask(gateway, key=key, at_most=at_most)
        assert response.status == 409
        assert "at most 1000 are" in response.error["message"]
    wide = await gateway.issue_key(max_cold_prefill_tokens=1_000_000)
    assert "at most 500 are" in (await ask(gateway, key=wide, at_most=500)).error["message"]
    assert worker.requests == []
    assert (await ask(gateway, key=wide)).status == 200


async def test_the_older_route_is_guarded_as_well(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = json.dumps({"model": "qwythos", "prompt": "word " * 8_000}).encode()
    response = await gateway.request("POST", "/v1/completions", body=body, headers={HEADER: "100"})
    assert (response.status, response.error["param"]) == (409, "prompt")
    assert worker.requests == []


async def test_near_the_limit_the_worker_is_asked_for_the_number(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await ask(gateway, at_most=PROMPT_TOKENS)).status == 200
    assert worker.paths.count("/tokenize") == 1
    response = await ask(
        gateway, [{"role": "user", "content": "text " * 8_000}], at_most=PROMPT_TOKENS - 1
    )
    assert (response.status, response.headers[ESTIMATE]) == (409, str(PROMPT_TOKENS))
    assert len(worker.requests) == 1


async def test_a_follow_up_is_not_cold_but_for_another_tenant(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prompt_tokens=PROMPT_TOKENS, cached_tokens=PROMPT_TOKENS - 50))
    assert (await ask(gateway, FOLLOW_UP, at_most=1_000)).status == 409
    assert (await ask(gateway, LONG)).status == 200
    assert (await ask(gateway, FOLLOW_UP, at_most=1_000)).status == 200
    other = await gateway.issue_key(tenant="other")
    assert (await ask(gateway, FOLLOW_UP, at_most=1_000, key=other)).status == 409
    colleague = await gateway.issue_key()
    assert (await ask(gateway, FOLLOW_UP, at_most=1_000, key=colleague)).status == 200
    assert len(worker.requests) == 3


async def test_a_worker_without_hits_is_not_trusted_to_have_them(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prompt_tokens=PROMPT_TOKENS, cached_tokens=0))
    for _ in range(6):
        assert (await ask(gateway)).status == 200
    assert (await ask(gateway, FOLLOW_UP, at_most=1_000)).status == 409
    worker.answers(Answer(prompt_tokens=PROMPT_TOKENS, cached_tokens=PROMPT_TOKENS - 50))
    for _ in range(12):
        assert (await ask(gateway)).status == 200
    assert (await ask(gateway, FOLLOW_UP, at_most=1_000)).status == 200


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
async def test_a_header_that_is_no_positive_integer_is_named(
    value: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await ask(gateway, at_most=value)
    assert (response.status, response.error["param"]) == (400, HEADER)
    assert worker.requests == []


async def test_the_header_twice_is_refused(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    body = chat_body()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{HEADER}: 100\r\n{HEADER}: 100\r\n\r\n"
    )
    async with gateway.raw() as client:
        await client.send(head.encode() + body)
        answer = await client.head()
        error = (await client.body(answer))["error"]
    assert (answer.status, error["param"]) == (400, HEADER)
    assert worker.requests == []


async def test_the_sdk_does_not_try_again(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    key = await gateway.issue_key(max_cold_prefill_tokens=1_000)
    async with gateway.sdk(key=key, max_retries=2) as client:
        with pytest.raises(openai.ConflictError) as caught:
            await client.chat.completions.create(
                model="qwythos", messages=[{"role": "user", "content": LONG[0]["content"]}]
            )
    assert caught.value.code == "cold_prefill_too_long"
    metrics = (await gateway.request("GET", "/metrics")).body.decode()
    counted = [line for line in metrics.splitlines() if 'code="cold_prefill_too_long"' in line]
    assert [line.rpartition(" ")[2] for line in counted] == ["1.0"]
