"""Clients that leave before the first byte: nothing is held for them, in Redis or here."""

import asyncio

import pytest
from redis import Redis

from tests.integration.limits_http.conftest import PATIENT_SECONDS, RECOUNT_DELAY_SECONDS
from tests.integration.limits_http.limiting import (
    WITHIN_SECONDS,
    budget_of,
    held,
    issue,
    limiter_of,
    nothing_held,
    remaining,
)
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.raw_client import RawClient, connected
from tests.support.redis_server import RedisServer
from tests.support.scripted_worker import ScriptedWorker

CLIENTS = 200
MAX_TOKENS = 100
ASKED = {"model": "qwythos", "messages": HELLO, "stream": True, "max_tokens": MAX_TOKENS}


async def leave_many(gateway: RunningGateway, key: str, gone: asyncio.Event) -> None:
    """So many clients ask, and leave when `gone` says so; half of them as a killed one does."""

    async def client(number: int) -> None:
        async with connected(gateway.port) as client:
            await client.post(CHAT, key, ASKED | {"stream": number % 3 != 0})
            await gone.wait()
            leave = RawClient.reset if number % 2 else RawClient.leave
            leave(client)

    await asyncio.gather(*map(client, range(CLIENTS)))


async def test_leaving_during_the_prefill(
    limited: RunningGateway, worker: ScriptedWorker, redis: Redis
) -> None:
    worker.answers(Answer(prefill_seconds=60))
    issued = await issue(
        limited, concurrency=CLIENTS, requests_per_minute=10_000, tokens_per_minute=10**9
    )
    gone = asyncio.Event()
    leaving = asyncio.get_running_loop().create_task(leave_many(limited, issued.secret, gone))
    await worker.received(CLIENTS)
    running = held(redis)
    assert (running.leases, running.reservations) == (CLIENTS, CLIENTS)
    assert limiter_of(limited).running == CLIENTS
    assert (await limited.chat(key=issued.secret)).status == 429
    gone.set()
    await leaving
    await nothing_held(redis, limited)
    worker.answers(Answer())
    assert (await limited.chat(key=issued.secret)).status == 200


async def test_leaving_while_redis_is_asked(
    quick_probes: None,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    redis_server: RedisServer,
) -> None:
    """It may have admitted them when it is heard again, and nobody is left to be told."""
    gateway = await start_gateway(
        worker, redis_url=redis_server.url, redis_timeout_seconds=1.0, lease_seconds=300
    )
    issued = await issue(gateway, concurrency=CLIENTS * 2, tokens_per_minute=10**9)
    assert (await gateway.chat(key=issued.secret)).status == 200
    worker.answers(Answer(prefill_seconds=60))
    drain = gateway.drain
    redis_server.stop()
    gone = asyncio.Event()
    leaving = asyncio.get_running_loop().create_task(leave_many(gateway, issued.secret, gone))
    await eventually(lambda: drain.in_flight >= CLIENTS, WITHIN_SECONDS, "all have come")
    gone.set()
    await leaving
    await eventually(lambda: drain.in_flight == 0, WITHIN_SECONDS, "all have gone")
    redis_server.cont()
    with redis_server.client() as redis:
        await nothing_held(redis, gateway)


async def test_leaving_without_redis(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    worker.answers(Answer(prefill_seconds=60))
    issued = await issue(gateway, concurrency=CLIENTS, tokens_per_minute=10**9)
    gone = asyncio.Event()
    leaving = asyncio.get_running_loop().create_task(leave_many(gateway, issued.secret, gone))
    await worker.received(CLIENTS)
    assert limiter_of(gateway).running == CLIENTS
    gone.set()
    await leaving
    await eventually(lambda: limiter_of(gateway).running == 0, WITHIN_SECONDS, "nothing is held")
    worker.answers(Answer())
    statuses = [
        response.status
        for response in await asyncio.gather(
            *(gateway.chat(key=issued.secret) for _ in range(CLIENTS))
        )
    ]
    assert statuses == [200] * CLIENTS


@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_cost_is_corrected_from_the_audit_log(
    stream: bool, start_gateway: StartGateway, worker: ScriptedWorker, redis: Redis,
    newest_redis_url: str,
) -> None:  # fmt: skip
    """Nobody knows how much of its prompt was read: all of it is charged, and nothing is held."""
    gateway = await start_gateway(
        worker,
        redis_url=newest_redis_url,
        redis_timeout_seconds=PATIENT_SECONDS,
        recount_delay_seconds=RECOUNT_DELAY_SECONDS,
    )
    worker.answers(Answer(prefill_seconds=60))
    issued = await issue(gateway, tokens_per_minute=100_000, tokens_per_day=100_000)
    async with gateway.raw() as client:
        await client.post(CHAT, issued.secret, ASKED | {"stream": stream})
        received = await worker.received()
        client.leave()
        await nothing_held(redis, gateway)
    row = await gateway.audited(received.header("x-request-id") or "")
    assert (row.outcome, row.usage_exact) == ("cancelled", False)
    assert row.charged_tokens == row.prompt_tokens
    assert row.charged_tokens

    def corrected() -> bool:
        budget = budget_of(redis, "acme", issued.key.id)
        assert budget is not None
        return (budget.spent, budget.unsure) == (row.charged_tokens, 0)

    await eventually(corrected, WITHIN_SECONDS, "the budget is counted again")
    models = await gateway.request("GET", "/v1/models", key=issued.secret)
    assert remaining(models.headers, "tokens") >= 100_000 - row.charged_tokens
