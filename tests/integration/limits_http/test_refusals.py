"""What a client is told whose request a limit refuses, and what stays behind of it."""

import re

import pytest

from tests.integration.limits_http.limiting import (
    NOTHING_HELD,
    issue,
    limit_tenant,
    limiter_of,
    remaining,
    seconds_of,
)
from tests.support.answers import Answer, Break, End
from tests.support.gateway import CHAT, HELLO, Response, RunningGateway
from tests.support.raw_client import RawClient
from tests.support.scripted_worker import ScriptedWorker

SPOKEN = re.compile(r"Please try again in (\S+)\.$")
JITTER = 1.25
ENDLESS = Answer(["word "], breaks=Break(End.HANG, 3))  # behind its word


def assert_to_be_tried_again(response: Response, *, at_most_seconds: float) -> float:
    """A 429 that passes by itself: what it says in its message and in its headers agrees. Returns
    the wait as spoken."""
    assert response.status == 429
    error = response.error
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    found = SPOKEN.search(error["message"])
    assert found is not None, error["message"]
    wait = seconds_of(found[1])
    assert 0 < wait <= at_most_seconds
    whole, exact = response.headers["retry-after"], int(response.headers["retry-after-ms"]) / 1000
    assert whole.isdigit()
    assert 1 <= int(whole) <= 60
    # In a minute everything is full again; no wait is longer.
    assert min(wait, 60.0) <= exact <= max(wait, 1.0) * JITTER + 0.001
    assert exact <= int(whole) < exact + 1
    assert "x-should-retry" not in response.headers
    return wait


def assert_never_to_be_tried_again(response: Response) -> str:
    """Returns its message."""
    assert response.status == 429
    error = response.error
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    assert "retry-after-ms" not in response.headers
    message: str = error["message"]
    assert "try again" not in message
    return message


async def assert_refused(gateway: RunningGateway, response: Response) -> None:
    """In its record, too; and it holds nothing."""
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.attempts) == ("refused", 429, 0)
    assert row.error_code == response.error["code"]
    assert row.charged_tokens is None
    assert limiter_of(gateway).running == 0


async def counted(gateway: RunningGateway, scope: str) -> float:
    metrics = (await gateway.request("GET", "/metrics")).body.decode()
    name = f'gateway_rate_limited_total{{scope="{scope}"}} '
    return next(float(line.removeprefix(name)) for line in metrics.splitlines() if name in line)


async def test_too_many_requests(either: RunningGateway, worker: ScriptedWorker) -> None:
    issued = await issue(either, requests_per_minute=2)
    for _ in range(2):
        assert (await either.chat(key=issued.secret)).status == 200
    waits = []
    for stream in (False, True):
        response = await either.chat(key=issued.secret, stream=stream)
        waits.append(assert_to_be_tried_again(response, at_most_seconds=30))
        message = response.error["message"]
        assert message.startswith(
            f"Rate limit reached for {issued.key.id} on requests per min (RPM): "
            "Limit 2, Used 2, Requested 1. "
        )
        assert remaining(response.headers, "requests") == 0
        await assert_refused(either, response)
    assert waits[1] <= waits[0]  # a refused request does not put the end off
    assert await counted(either, "requests") == 2
    assert len(worker.requests) == 2


async def test_too_many_tokens(either: RunningGateway, worker: ScriptedWorker) -> None:
    worker.answers(Answer(prompt_tokens=20, completion_tokens=900))
    issued = await issue(either, tokens_per_minute=1_000)
    assert (await either.chat(key=issued.secret, max_tokens=900)).status == 200
    response = await either.chat(key=issued.secret, max_tokens=900)
    assert_to_be_tried_again(response, at_most_seconds=60)
    found = re.search(
        r"on tokens per min \(TPM\): Limit 1000, Used (\d+), Requested (\d+)\.",
        response.error["message"],
    )
    assert found is not None, response.error["message"]
    # 17 come back each second.
    assert 600 < int(found[1]) <= 920
    assert 900 < int(found[2]) < 950
    assert remaining(response.headers, "tokens") < 400
    await assert_refused(either, response)
    assert await counted(either, "tokens") == 1
    # One that fits into what is left is served.
    assert (await either.chat(key=issued.secret, max_tokens=10)).status == 200


async def running_stream(client: RawClient, key: str) -> None:
    asked = {"model": "qwythos", "messages": HELLO, "stream": True}
    await client.post(CHAT, key, asked)
    assert (await client.head()).status == 200


async def test_too_many_at_once(either: RunningGateway, worker: ScriptedWorker) -> None:
    worker.answers(ENDLESS)
    issued = await issue(either, concurrency=1)
    async with either.raw() as client:
        await running_stream(client, issued.secret)
        response = await either.chat(key=issued.secret)
        assert_to_be_tried_again(response, at_most_seconds=1)
        assert "on concurrent requests: Limit 1, Used 1, Requested 1." in response.error["message"]
        row = await either.audited(response.request_id)
        assert (row.outcome, row.error_code) == ("refused", "rate_limit_exceeded")
    assert await counted(either, "concurrency") == 1
    worker.answers(Answer())
    await either.audited(worker.requests[0].header("x-request-id") or "")
    assert (await either.chat(key=issued.secret)).status == 200


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_budget_that_is_spent(
    period: str, either: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prompt_tokens=20, completion_tokens=900))
    issued = await issue(either, **{f"tokens_per_{period}": 1_000})
    assert (await either.chat(key=issued.secret, max_tokens=900)).status == 200
    response = await either.chat(key=issued.secret, max_tokens=900)
    message = assert_never_to_be_tried_again(response)
    assert message.startswith(
        f"You exceeded your current quota: {issued.key.id} on tokens per {period}: "
        "Limit 1000, Used 920, Requested 9"
    )
    await assert_refused(either, response)
    assert await counted(either, period) == 1


async def test_a_budget_that_running_requests_hold_may_come_back(
    either: RunningGateway, worker: ScriptedWorker
) -> None:
    """So its client may try again, as long as what is spent leaves room."""
    worker.answers(ENDLESS)
    issued = await issue(either, tokens_per_day=1_000, max_output_tokens=900)
    async with either.raw() as client:
        await running_stream(client, issued.secret)
        response = await either.chat(key=issued.secret)
        assert_to_be_tried_again(response, at_most_seconds=1)
        assert "tokens per day" in response.error["message"]


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ("tokens_per_minute", "tokens per min (TPM)"),
        ("tokens_per_day", "tokens per day"),
        ("tokens_per_month", "tokens per month"),
    ],
)
async def test_a_request_that_no_waiting_can_admit(
    limit: str, name: str, either: RunningGateway, worker: ScriptedWorker
) -> None:
    issued = await issue(either, **{limit: 1_000})
    response = await either.chat(key=issued.secret, max_tokens=2_000)
    message = assert_never_to_be_tried_again(response)
    assert message.startswith(f"Request too large for {issued.key.id} on {name}: Limit 1000, ")
    await assert_refused(either, response)
    assert worker.requests == []
    # Without a cap of its own a request gets one that fits.
    assert (await either.chat(key=issued.secret)).status == 200
    assert worker.requests[0].json["max_tokens"] < 1_000


async def test_the_tenants_limit_is_named_as_such(either: RunningGateway) -> None:
    await limit_tenant(either, "pair", requests_per_minute=2)
    first, second = [await issue(either, tenant="pair") for _ in range(2)]
    for issued in (first, second):
        assert (await either.chat(key=issued.secret)).status == 200
    for issued in (first, second):
        response = await either.chat(key=issued.secret)
        assert_to_be_tried_again(response, at_most_seconds=30)
        assert "for tenant pair on requests per min (RPM)" in response.error["message"]
        assert issued.key.id not in response.error["message"]
    assert NOTHING_HELD.leases == limiter_of(either).running


async def test_a_refused_request_takes_nothing_of_what_it_did_not_get(
    either: RunningGateway, worker: ScriptedWorker
) -> None:
    """The tokens of a request that another limit refused are still there."""
    worker.answers(ENDLESS)
    issued = await issue(either, tokens_per_minute=100_000, concurrency=1, requests_per_minute=100)
    async with either.raw() as client:
        await running_stream(client, issued.secret)
        before = await either.request("GET", "/v1/models", key=issued.secret)
        for _ in range(3):
            assert (await either.chat(key=issued.secret, max_tokens=20_000)).status == 429
        after = await either.request("GET", "/v1/models", key=issued.secret)
    for of in ("requests", "tokens"):
        assert remaining(after.headers, of) >= remaining(before.headers, of)
