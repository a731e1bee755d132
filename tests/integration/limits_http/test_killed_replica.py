"""A replica that is killed: what its streams held comes back by itself, and budgets end right."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.integration.limits_http.conftest import PATIENT_SECONDS
from tests.integration.limits_http.limiting import (
    NOTHING_HELD,
    WITHIN_SECONDS,
    Budget,
    audited_tokens,
    budget_of,
    held,
)
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import CHAT, HELLO, PEPPER
from tests.support.raw_client import RawClient, connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import serving

STREAMS = 4
LEASE_SECONDS = 3.0  # a replica on a loaded machine, too, renews within it
USED = 50 + 30
ASKED = {"model": "qwythos", "messages": HELLO, "stream": True, "max_tokens": 100}
ENDLESS = Answer(["word "], breaks=Break(End.HANG, 3))  # behind its word


@pytest.fixture
async def keys(engine: AsyncEngine) -> KeyStore:
    return KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)


def last_lease_end(redis: Redis) -> float:
    """In seconds since the epoch."""
    (leases,) = redis.scan_iter("gateway:*:leases")
    (_, end_us), *_ = redis.zrange(leases, 0, 0, desc=True, withscores=True)
    return end_us / 1e6


async def test_a_killed_replicas_streams_end_within_their_lease(
    database_url: str,
    engine: AsyncEngine,
    keys: KeyStore,
    worker: ScriptedWorker,
    redis: Redis,
    newest_redis_url: str,
) -> None:
    policy = Policy(concurrency=STREAMS, tokens_per_day=100_000)
    issued = await keys.create(KeyDraft(name="limited", tenant="acme", policy=policy))
    settings = {
        "redis_url": newest_redis_url,
        "lease_seconds": LEASE_SECONDS,
        "redis_timeout_seconds": PATIENT_SECONDS,
    }
    async with AsyncExitStack() as stack:
        killed, other = await asyncio.gather(
            *(
                stack.enter_async_context(
                    serving(database_url, worker, recount_delay_seconds=delay, **settings)
                )
                # One that is killed while it counts keeps others from it for a minute.
                for delay in (15.0, 0.2)
            )
        )

        async def ask(client: RawClient) -> int:
            await client.post(CHAT, issued.secret, ASKED)
            return (await client.head()).status

        worker.answers(ENDLESS)
        for _ in range(STREAMS):
            assert await ask(await stack.enter_async_context(connected(killed.port))) == 200
        running = held(redis)
        assert (running.leases, running.reservations) == (STREAMS, STREAMS)
        assert running.tokens > STREAMS * 100
        first_end = last_lease_end(redis)
        await eventually(
            lambda: last_lease_end(redis) > first_end + LEASE_SECONDS / 2,
            WITHIN_SECONDS,
            "leases are renewed",
        )
        worker.answers(Answer(prompt_tokens=50, completion_tokens=30))

        async def served() -> bool | None:
            async with connected(other.port) as client:
                if await ask(client) != 200:
                    return None
                await client.chunks()
                return True

        assert await served() is None
        killed.process.kill()
        await killed.process.wait()
        await eventually_found(served, WITHIN_SECONDS, "the other replica serves the key")
        await eventually(lambda: held(redis) == NOTHING_HELD, WITHIN_SECONDS, "nothing is held")

        async def counted() -> bool | None:
            audited = await audited_tokens(engine, issued.key.id)
            budget = budget_of(redis, "acme", issued.key.id)
            return (audited == USED and budget == Budget(USED, 0, 0)) or None

        await eventually_found(counted, WITHIN_SECONDS, "the budget is the audit log's")
