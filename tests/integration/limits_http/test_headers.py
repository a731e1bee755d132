"""`x-ratelimit-*` on every answer to a key that is limited."""

import math
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.limits_http.limiting import issue, limit_tenant, remaining, told
from tests.support.answers import Answer, Break, End, vllm_error
from tests.support.gateway import CHAT, HELLO, Response, RunningGateway, StartGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

RPM, TPM = 1_000, 1_000_000
MINUTE = 60.0
LONG = [{"role": "user", "content": "word " * 2_000}]


async def test_every_answer_tells_what_is_left(
    either: RunningGateway, worker: ScriptedWorker
) -> None:
    """Whatever it is of; each request counts against requests a minute, but for a look at the list
    of models."""
    issued = await issue(
        either,
        requests_per_minute=RPM,
        tokens_per_minute=TPM,
        max_output_tokens=500,
        engine_parameters=(),
    )
    key = issued.secret

    async def chat(**fields: object) -> Response:
        return await either.chat(key=key, **fields)

    async def too_cold() -> Response:
        headers = {"x-gateway-max-cold-prefill-tokens": "10"}
        body = chat_body(messages=LONG)
        return await either.request("POST", CHAT, key=key, body=body, headers=headers)

    async def too_large() -> Response:
        body = b"x" * (either.app.state.gateway.settings.max_body_bytes + 1)
        return await either.request("POST", CHAT, key=key, body=body)

    async def fails(answer: Answer, **fields: object) -> Response:
        worker.answers(answer)
        response = await chat(**fields)
        worker.answers(Answer())
        return response

    async def busy() -> Response:
        worker.answers(vllm_error(503, "full"))
        response = await chat()
        worker.answers(Answer())
        return response

    broken = Answer(breaks=Break(End.CLOSE, None))
    asked: list[tuple[int, Callable[[], Awaitable[Response]]]] = [
        (200, chat),
        (200, lambda: chat(stream=True)),
        (400, lambda: chat(temperature=9)),
        (400, lambda: either.request("POST", CHAT, key=key, body=b"{")),
        (403, lambda: chat(top_k=5)),
        (404, lambda: chat(model="gpt-4")),
        (409, too_cold),
        (413, too_large),
        (502, lambda: fails(broken)),
        (503, busy),
    ]
    left = RPM
    began = time.monotonic()
    for status, ask in asked:
        response = await ask()
        assert response.status == status, response.body
        requests, tokens = told(response.headers, "requests"), told(response.headers, "tokens")
        assert requests is not None, status
        assert tokens is not None, status
        left -= 1
        refilled = math.ceil((time.monotonic() - began) * RPM / MINUTE)
        assert left <= requests.remaining <= min(left + refilled, RPM - 1), status
        assert (requests.limit, tokens.limit) == (RPM, TPM)
        assert 0 < requests.reset_seconds <= MINUTE
        assert 0 <= tokens.remaining <= TPM
        assert 0 <= tokens.reset_seconds <= MINUTE
    for path in ("/v1/models", "/v1/models/qwythos", "/v1/models/gpt-4"):
        response = await either.request("GET", path, key=key)
        assert remaining(response.headers, "requests") >= left, path
        assert remaining(response.headers, "tokens") > 0


async def test_a_key_without_limits_hears_of_none(either: RunningGateway) -> None:
    response = await either.chat()
    assert response.status == 200
    assert not [name for name in response.headers if name.lower().startswith("x-ratelimit")]


async def test_only_what_is_limited_is_told_of(either: RunningGateway) -> None:
    issued = await issue(either, tokens_per_minute=TPM, concurrency=3, tokens_per_day=10**9)
    response = await either.chat(key=issued.secret)
    assert response.status == 200
    assert told(response.headers, "requests") is None
    assert told(response.headers, "tokens") is not None


async def test_an_unknown_key_hears_of_none(either: RunningGateway) -> None:
    response = await either.chat(key="sk-qw-" + "a" * 49)
    assert response.status == 401
    assert not [name for name in response.headers if name.lower().startswith("x-ratelimit")]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_tells_of_the_state_with_all_of_it_reserved(
    stream: bool, either: RunningGateway
) -> None:
    """Its headers leave before anybody knows what it will use."""
    issued = await issue(either, tokens_per_minute=TPM)
    before = await either.request("GET", "/v1/models", key=issued.secret)
    assert remaining(before.headers, "tokens") == TPM
    response = await either.chat(key=issued.secret, stream=stream, max_tokens=30_000)
    assert response.status == 200
    # TPM / 60 come back each second.
    assert TPM - 30_100 <= remaining(response.headers, "tokens") < TPM
    after = await either.request("GET", "/v1/models", key=issued.secret)
    assert remaining(after.headers, "tokens") > TPM - 100  # what it did not use came back


async def test_the_tighter_of_the_key_and_its_tenant_is_told(either: RunningGateway) -> None:
    await limit_tenant(either, "small", requests_per_minute=50, tokens_per_minute=10**9)
    wide = await issue(either, tenant="small", requests_per_minute=100, tokens_per_minute=TPM)
    narrow = await issue(either, tenant="small", requests_per_minute=20)
    response = await either.chat(key=wide.secret)
    requests, tokens = told(response.headers, "requests"), told(response.headers, "tokens")
    assert requests is not None
    assert tokens is not None
    assert (requests.limit, requests.remaining) == (50, 49)
    assert tokens.limit == TPM
    response = await either.chat(key=narrow.secret)
    requests, tokens = told(response.headers, "requests"), told(response.headers, "tokens")
    assert requests is not None
    assert tokens is not None
    assert (requests.limit, requests.remaining) == (20, 19)
    assert tokens.limit == 10**9


async def test_a_stream_that_is_long_silent_has_them_as_well(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, commit_after_seconds=0.02)
    worker.answers(Answer(prefill_seconds=0.2))
    issued = await issue(gateway, requests_per_minute=RPM)
    async with gateway.raw() as client:
        asked = {"model": "qwythos", "messages": HELLO, "stream": True}
        await client.post(CHAT, issued.secret, asked)
        head = await client.head()
    assert (head.status, remaining(head.headers, "requests")) == (200, RPM - 1)


async def test_a_request_that_was_refused_counts_against_requests_a_minute(
    either: RunningGateway, worker: ScriptedWorker
) -> None:
    issued = await issue(either, requests_per_minute=4)
    for status, fields in ((400, {"temperature": 9}), (404, {"model": "gpt-4"}), (200, {})):
        assert (await either.chat(key=issued.secret, **fields)).status == status
    assert (await either.chat(key=issued.secret, max_tokens=10**6)).status == 400
    assert (await either.chat(key=issued.secret)).status == 429
    assert len(worker.requests) == 1
