"""What a request is charged in the end, in the limits and in the audit log."""

import math
import time

import pytest
from redis import Redis

from app.store.plan import PlanDraft
from app.store.policy import Policy
from tests.integration.limits_http.conftest import PATIENT_SECONDS, RECOUNT_DELAY_SECONDS
from tests.integration.limits_http.limiting import (
    WITHIN_SECONDS,
    Budget,
    budget_of,
    issue,
    limit_tenant,
    limiter_of,
    nothing_held,
    remaining,
)
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import HELLO, Response, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

TPM = 60_000
DAY = 10**6
CACHED_WEIGHT = 0.25


@pytest.fixture
async def gateway(
    start_gateway: StartGateway, worker: ScriptedWorker, newest_redis_url: str
) -> RunningGateway:
    return await start_gateway(
        worker,
        redis_url=newest_redis_url,
        redis_timeout_seconds=PATIENT_SECONDS,
        recount_delay_seconds=RECOUNT_DELAY_SECONDS,
        cached_token_weight=CACHED_WEIGHT,
    )


async def tokens_left(gateway: RunningGateway, key: str) -> int:
    return remaining((await gateway.request("GET", "/v1/models", key=key)).headers, "tokens")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "charged"),
    [
        (Answer(prompt_tokens=1_000, completion_tokens=300), 1_300),
        # Thought that nobody saw was written nevertheless.
        (Answer(prompt_tokens=100, completion_tokens=9_000, reasoning_tokens=8_990), 9_100),
        # 8,000 of the prompt's tokens at a quarter.
        (Answer(prompt_tokens=10_000, completion_tokens=10, cached_tokens=8_000), 4_010),
    ],
    ids=["usage", "thought", "cached"],
)
async def test_what_the_worker_reports_is_charged(
    stream: bool,
    answer: Answer,
    charged: int,
    gateway: RunningGateway,
    worker: ScriptedWorker,
    redis: Redis,
) -> None:
    worker.answers(answer)
    began = time.monotonic()
    await limit_tenant(gateway, "acme", tokens_per_month=DAY)
    issued = await issue(gateway, tokens_per_minute=TPM, tokens_per_day=DAY)
    response = await gateway.chat(key=issued.secret, stream=stream, max_tokens=10_000)
    row = await gateway.audited(response.request_id)
    assert row.usage_exact
    assert row.charged_tokens == charged
    assert row.settled_at is not None
    assert row.settled_at >= row.received_at
    assert budget_of(redis, "acme", issued.key.id) == Budget(charged, 0, 0)
    left = await tokens_left(gateway, issued.secret)
    refilled = math.ceil((time.monotonic() - began) * TPM / 60)
    assert TPM - charged <= left <= min(TPM, TPM - charged + refilled)
    await nothing_held(redis, gateway)


async def test_a_tenants_budget_is_spent_by_all_of_its_keys(
    gateway: RunningGateway, worker: ScriptedWorker, redis: Redis
) -> None:
    worker.answers(Answer(prompt_tokens=100, completion_tokens=400))
    await limit_tenant(gateway, "team", tokens_per_day=1_200)
    first, second = [await issue(gateway, tenant="team") for _ in range(2)]
    for issued in (first, second):
        assert (await gateway.chat(key=issued.secret, max_tokens=500)).status == 200
    for issued in (first, second):
        response = await gateway.chat(key=issued.secret, max_tokens=500)
        assert (response.status, response.error["code"]) == (429, "insufficient_quota")
    assert budget_of(redis, "team") == Budget(1_000, 0, 0)


async def test_an_estimate_that_was_too_low_is_owed(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prompt_tokens=80_000, completion_tokens=10))
    worker.prompt_tokens = 1_000
    issued = await issue(gateway, tokens_per_minute=TPM)
    assert (await gateway.chat(key=issued.secret, max_tokens=10)).status == 200
    response = await gateway.chat(key=issued.secret, max_tokens=10)
    assert response.error["code"] == "rate_limit_exceeded"
    # 20,000 are missing beyond the whole bucket: 20 seconds until one can be taken.
    assert 10_000 < int(response.headers["retry-after-ms"]) <= 20_100 * 1.25


async def unsure_until_counted(
    gateway: RunningGateway, redis: Redis, response: Response, key_id: str
) -> None:
    row = await gateway.audited(response.request_id)
    assert row.charged_tokens == row.prompt_tokens
    await nothing_held(redis, gateway)
    await eventually(
        lambda: budget_of(redis, "acme", key_id) == Budget(row.charged_tokens or 0, 0, 0),
        WITHIN_SECONDS,
        "the budget is counted again",
    )


@pytest.mark.parametrize("how", [End.RESET, End.CLOSE, End.ERROR])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_dies_in_prefill(
    how: End, stream: bool, gateway: RunningGateway, worker: ScriptedWorker, redis: Redis
) -> None:
    """It began, and nobody knows how far it came."""
    worker.answers(Answer(breaks=Break(how, 0)))
    issued = await issue(gateway, tokens_per_minute=TPM, tokens_per_day=DAY)
    response = await gateway.chat(key=issued.secret, stream=stream, max_tokens=5_000)
    assert response.status in (200, 502)
    await unsure_until_counted(gateway, redis, response, issued.key.id)
    assert await tokens_left(gateway, issued.secret) > TPM - 1_000  # the answer's came back


async def test_a_worker_that_takes_nothing_costs_nothing(
    gateway: RunningGateway, worker: ScriptedWorker, redis: Redis
) -> None:
    worker.answers(Answer(breaks=Break(End.RESET, None)))
    issued = await issue(gateway, tokens_per_minute=TPM, tokens_per_day=DAY)
    response = await gateway.chat(key=issued.secret, max_tokens=5_000)
    assert response.status == 502
    row = await gateway.audited(response.request_id)
    assert row.charged_tokens == 0
    assert budget_of(redis, "acme", issued.key.id) == Budget(0, 0, 0)
    assert await tokens_left(gateway, issued.secret) == TPM


async def test_an_answer_that_breaks_off_is_charged_as_far_as_it_came(
    gateway: RunningGateway, worker: ScriptedWorker, redis: Redis
) -> None:
    worker.answers(Answer(["word "] * 50, breaks=Break(End.RESET, 30), pace_seconds=0.001))
    issued = await issue(gateway, tokens_per_minute=TPM, tokens_per_day=DAY)
    response = await gateway.chat(key=issued.secret, stream=True, max_tokens=5_000)
    row = await gateway.audited(response.request_id)
    assert row.outcome == "failed"
    assert row.completion_tokens is not None
    assert 20 < row.completion_tokens <= 30
    assert row.charged_tokens == (row.prompt_tokens or 0) + row.completion_tokens
    assert budget_of(redis, "acme", issued.key.id) == Budget(row.charged_tokens, 0, 0)


# -- near a limit

LONG = [{"role": "user", "content": "word " * 4_000}]  # some 5,000 tokens by the estimate


async def test_near_a_limit_the_worker_counts_the_prompt(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """An estimate that is too high does not keep a request out that fits."""
    worker.prompt_tokens = 4_000
    worker.answers(Answer(prompt_tokens=4_000, completion_tokens=10))
    issued = await issue(gateway, tokens_per_minute=4_600)
    response = await gateway.chat(key=issued.secret, messages=LONG, max_tokens=100)
    assert response.status == 200
    assert worker.paths.count("/tokenize") == 1
    assert remaining(response.headers, "tokens") in range(500, 600)


async def test_a_budget_that_is_nearly_spent_has_the_prompt_counted(
    gateway: RunningGateway, worker: ScriptedWorker, redis: Redis
) -> None:
    """An estimate that is too low does not overdraw it."""
    worker.prompt_tokens = 7_000
    issued = await issue(gateway, tokens_per_day=6_000)
    response = await gateway.chat(key=issued.secret, messages=LONG, max_tokens=100)
    assert (response.status, response.error["code"]) == (429, "insufficient_quota")
    assert "Requested 7100" in response.error["message"]
    assert worker.paths.count("/tokenize") == 1
    assert worker.requests == []
    await nothing_held(redis, gateway)
    assert budget_of(redis, "acme", issued.key.id) == Budget(0, 0, 0)


async def test_an_ordinary_request_is_not_counted(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    issued = await issue(gateway, tokens_per_minute=TPM, tokens_per_day=DAY)
    for _ in range(3):
        response = await gateway.chat(key=issued.secret, messages=LONG, max_tokens=100)
        assert response.status == 200
    assert "/tokenize" not in worker.paths


async def test_one_that_is_far_too_large_is_not_counted(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    issued = await issue(gateway, tokens_per_minute=1_000)
    response = await gateway.chat(key=issued.secret, messages=LONG, max_tokens=100)
    assert response.error["code"] == "insufficient_quota"
    assert "/tokenize" not in worker.paths


# -- limits that are edited

CACHE_SECONDS = 0.1


async def test_an_edited_plan_and_tenant_act_within_the_key_cache(
    start_gateway: StartGateway, worker: ScriptedWorker, newest_redis_url: str
) -> None:
    """Edited elsewhere: by another replica, or by the command line."""
    gateway = await start_gateway(
        worker,
        redis_url=newest_redis_url,
        redis_timeout_seconds=PATIENT_SECONDS,
        key_cache_seconds=CACHE_SECONDS,
    )
    await gateway.keys.plans.create(PlanDraft(name="free", policy=Policy(tokens_per_day=1_000)))
    issued = await issue(gateway, tenant="edited", plan="free")

    async def answered(status: int) -> Response:
        async def find() -> Response | None:
            response = await gateway.chat(key=issued.secret, messages=HELLO, max_tokens=2_000)
            return response if response.status == status else None

        return await eventually_found(find, WITHIN_SECONDS, f"an answer {status}")

    await answered(429)
    await gateway.keys.update_plan("free", {"policy": Policy(tokens_per_day=10**7)})
    await answered(200)
    await limit_tenant(gateway, "edited", tokens_per_month=1_000)
    refused = await answered(429)
    assert "tenant edited on tokens per month" in refused.error["message"]
    assert limiter_of(gateway).running == 0
