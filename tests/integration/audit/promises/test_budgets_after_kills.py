"""Replicas that share their budgets in Redis, and some of them killed: what was spent is what the
audit log says."""

import json
import random
from asyncio import TaskGroup
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from redis import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import MIB
from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Limits, Policy
from app.store.tables import audit_events
from tests.integration.audit.promises.asking import spools
from tests.integration.audit.promises.fleet import Fleet
from tests.integration.audit.promises.nursery import nursery
from tests.integration.audit.promises.witnesses import Witnesses
from tests.integration.limits_http.limiting import NOTHING_HELD, Budget, budget_of, held
from tests.support.answers import Answer
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import PEPPER
from tests.support.scripted_worker import ScriptedWorker

SEED = 5
TENANT = "acme"
REPLICAS = 3
KILLS = 2
CLIENTS = 6
BUDGET = 100_000_000  # tokens; nobody is refused
WITHIN_SECONDS = 60.0  # only spent on failure
SETTINGS = {
    "key_pepper": PEPPER,
    "audit_segment_bytes": MIB,
    "redis_timeout_seconds": 1.0,
    # What a killed replica has left is in the database before any budget is counted again.
    "lease_seconds": 5.0,
    "recount_delay_seconds": 2.0,
}


@pytest.fixture
def redis(newest_redis_url: str) -> Iterator[Redis]:
    """To look into the one that the replicas share."""
    with Redis.from_url(newest_redis_url, decode_responses=True) as client:
        yield client


async def test_budgets_end_as_the_events_say_although_replicas_were_killed(
    engine: AsyncEngine,
    database_url: str,
    newest_redis_url: str,
    redis: Redis,
    worker: ScriptedWorker,
    root: Path,
) -> None:
    keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
    policy = Policy(tokens_per_day=BUDGET)
    issued = await keys.create(KeyDraft(name="limited", tenant=TENANT, policy=policy))
    await keys.update_tenant(TENANT, {"limits": Limits(tokens_per_day=BUDGET)})
    worker.answers(Answer(["word "] * 10, pace_seconds=0.03))
    chance = random.Random(SEED)
    clients = Witnesses(issued.secret, chance)
    settings: dict[str, object] = {
        "database_url": database_url,
        "redis_url": newest_redis_url,
        "workers": json.dumps([worker.settings()]),
        "audit_directory": root,
    }
    async with nursery() as gateways:
        fleet = Fleet(gateways, clients, chance, settings | SETTINGS, most_serving=REPLICAS)
        async with aiohttp.ClientSession() as http, TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(clients.talk(http))
            for _ in range(KILLS):
                await fleet.replenish()
                await fleet.kill_one()
            await fleet.replenish()  # the last takes over what the killed have left
            await eventually(
                lambda: len(spools(root)) == REPLICAS, WITHIN_SECONDS, "what was left is shipped"
            )
            clients.stopped = True

        async def nothing_held() -> bool | None:
            """The leases of the killed end with the first request after their time."""
            async with aiohttp.ClientSession() as http:
                await clients.ask(http)
            return held(redis) == NOTHING_HELD or None

        await eventually_found(nothing_held, WITHIN_SECONDS, "nothing is held")

        async def agreed() -> bool | None:
            """Once what the killed had in hand was counted again."""
            spent = Budget(await charged(engine), 0, 0)
            found = [budget_of(redis, TENANT, key_id) for key_id in (issued.key.id, None)]
            return found == [spent, spent] or None

        await eventually_found(agreed, WITHIN_SECONDS, "budgets are what the events say")
    ended = sum(seen.ended for seen in clients.seen.values())
    assert ended > 5 * KILLS
    assert await charged(engine) >= 17 * ended  # 7 tokens of the prompt, and 10 at least


async def charged(engine: AsyncEngine) -> int:
    """By the events of all requests, in tokens."""
    wanted = select(func.sum(audit_events.c.charged_tokens))
    async with engine.connect() as connection:
        return int(await connection.scalar(wanted) or 0)
