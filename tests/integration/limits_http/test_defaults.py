"""An answer whose length the client left to us, near the end of what its key may use."""

from tests.integration.limits_http.conftest import PATIENT_SECONDS
from tests.support.gateway import StartGateway
from tests.support.scripted_worker import ScriptedWorker

BUDGET = 3_000


async def test_it_is_as_long_as_the_budget_still_allows(
    start_gateway: StartGateway, worker: ScriptedWorker, redis_url: str
) -> None:
    gateway = await start_gateway(
        worker, redis_url=redis_url, redis_timeout_seconds=PATIENT_SECONDS
    )
    key = await gateway.issue_key(tokens_per_day=BUDGET)
    for _ in range(4):
        assert (await gateway.chat(key=key)).status == 200
    asked = [request.json["max_tokens"] for request in worker.requests]
    assert max(asked) < BUDGET
    assert asked[1:] == sorted(set(asked[1:]), reverse=True)


async def test_a_length_that_the_client_asked_for_is_not_shortened(
    start_gateway: StartGateway, worker: ScriptedWorker, newest_redis_url: str
) -> None:
    gateway = await start_gateway(
        worker, redis_url=newest_redis_url, redis_timeout_seconds=PATIENT_SECONDS
    )
    key = await gateway.issue_key(tokens_per_day=BUDGET)
    assert (await gateway.chat(key=key, max_tokens=BUDGET // 2)).status == 200
    refused = await gateway.chat(key=key, max_tokens=BUDGET - 10)
    assert refused.status == 429
    assert refused.error["code"] == "insufficient_quota"


async def test_a_budget_with_too_little_left_for_an_answer_is_spent(
    start_gateway: StartGateway, worker: ScriptedWorker, newest_redis_url: str
) -> None:
    gateway = await start_gateway(
        worker, redis_url=newest_redis_url, redis_timeout_seconds=PATIENT_SECONDS
    )
    key = await gateway.issue_key(tokens_per_day=120)
    assert (await gateway.chat(key=key, max_tokens=20)).status == 200
    refused = await gateway.chat(key=key)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert refused.headers["x-should-retry"] == "false"
