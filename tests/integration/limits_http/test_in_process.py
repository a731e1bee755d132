"""Without GATEWAY_REDIS_URL the same limits hold in the process; what both do alike is tested with
either."""

import asyncio

from tests.integration.limits_http.limiting import issue, limiter_of
from tests.support.answers import Answer
from tests.support.gateway import StartGateway
from tests.support.scripted_worker import ScriptedWorker

CLIENTS = 64


async def test_exactly_the_limit_is_admitted(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker)
    issued = await issue(gateway, requests_per_minute=3)  # one more in 20 s
    responses = await asyncio.gather(*(gateway.chat(key=issued.secret) for _ in range(CLIENTS)))
    assert sorted(response.status for response in responses) == [200] * 3 + [429] * (CLIENTS - 3)
    assert limiter_of(gateway).running == 0


async def test_budgets_survive_a_restart(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """They are counted from the audit log."""
    worker.answers(Answer(prompt_tokens=100, completion_tokens=800))
    before = await start_gateway(worker)
    issued = await issue(before, tokens_per_month=2_000)
    for _ in range(2):
        response = await before.chat(key=issued.secret, max_tokens=850)
        assert response.status == 200
        await before.audited(response.request_id)
    after = await start_gateway(worker)
    response = await after.chat(key=issued.secret, max_tokens=850)
    assert (response.status, response.error["code"]) == (429, "insufficient_quota")
    assert "Limit 2000, Used 1800, " in response.error["message"]
    assert (await after.chat(key=issued.secret, max_tokens=50)).status == 200
