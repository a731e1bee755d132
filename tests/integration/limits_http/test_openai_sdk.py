"""The official Python SDK, with its retries on, against limits."""

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from tests.integration.limits_http.limiting import Told, issue, told
from tests.support.answers import Answer
from tests.support.gateway import RunningGateway
from tests.support.scripted_worker import ScriptedWorker

# 500 tokens come back each second. What is owed beyond the bucket is 2 s more, in which a slow
# machine may ask and still is refused.
TPM = 30_000
TAKES_ALL = Answer(prompt_tokens=20, completion_tokens=30_880)


@pytest.fixture
async def key(limited: RunningGateway, worker: ScriptedWorker) -> str:
    """Of its tokens hardly any is left, and the worker answers."""
    issued = await issue(limited, tokens_per_minute=TPM, tokens_per_day=TPM * 10)
    worker.answers(TAKES_ALL, Answer(["Hello"]))
    worker.prompt_tokens = 100
    assert (await limited.chat(key=issued.secret, max_tokens=29_000)).status == 200
    return issued.secret


@pytest.fixture
async def client(limited: RunningGateway, key: str) -> AsyncIterator[AsyncOpenAI]:
    async with limited.sdk(key=key, max_retries=2) as client:
        yield client


async def statuses(gateway: RunningGateway) -> dict[str, int]:
    """How many answers there were of each status and code."""
    metrics = (await gateway.request("GET", "/metrics")).body.decode()
    found: dict[str, int] = {}
    for line in metrics.splitlines():
        if line.startswith("gateway_requests_total{"):
            labels, _, count = line.rpartition(" ")
            code = labels.partition('code="')[2].partition('"')[0]
            found[code] = found.get(code, 0) + int(float(count))
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_it_waits_as_it_is_told_and_succeeds(
    stream: bool, limited: RunningGateway, client: AsyncOpenAI
) -> None:
    if stream:
        events = await client.chat.completions.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}], max_tokens=1_000,
            stream=True,
        )  # fmt: skip
        text = "".join([event.choices[0].delta.content or "" async for event in events])
    else:
        answer = await client.chat.completions.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}], max_tokens=1_000
        )
        text = answer.choices[0].message.content or ""
    assert text == "Hello"
    # One try was too soon, and the next one was not: it waited long enough.
    assert await statuses(limited) == {"": 2, "rate_limit_exceeded": 1}


async def test_without_retries_it_raises_what_it_knows(limited: RunningGateway, key: str) -> None:
    async with limited.sdk(key=key) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(
                model="qwythos", messages=[{"role": "user", "content": "Hi"}], max_tokens=500
            )
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert "Please try again in" in caught.value.message


@pytest.mark.parametrize("max_tokens", [20_000, TPM + 1])
async def test_it_does_not_repeat_what_no_waiting_admits(
    max_tokens: int, limited: RunningGateway, client: AsyncOpenAI, worker: ScriptedWorker
) -> None:
    """A budget that is spent, and a request that is too large."""
    spent = await issue(limited, tokens_per_day=40_000, tokens_per_minute=TPM)
    worker.answers(TAKES_ALL)
    assert (await limited.chat(key=spent.secret, max_tokens=29_000)).status == 200
    async with limited.sdk(key=spent.secret, max_retries=2) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(
                model="qwythos", messages=[{"role": "user", "content": "Hi"}],
                max_tokens=max_tokens,
            )  # fmt: skip
    assert (caught.value.code, caught.value.type) == ("insufficient_quota",) * 2
    assert (await statuses(limited))["insufficient_quota"] == 1
    assert len(worker.requests) == 2


async def test_its_raw_responses_carry_the_headers(limited: RunningGateway) -> None:
    issued = await issue(limited, tokens_per_minute=TPM, requests_per_minute=3)
    async with limited.sdk(key=issued.secret) as client:
        response = await client.chat.completions.with_raw_response.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}], max_tokens=500
        )
    headers = response.headers
    requests, tokens = told(headers, "requests"), told(headers, "tokens")
    assert requests == Told(3, 2, pytest.approx(20, abs=5))
    assert tokens is not None
    assert tokens.limit == TPM
    assert TPM - 600 < tokens.remaining < TPM - 500
    assert response.parse().choices[0].message.content == "Hello there."
