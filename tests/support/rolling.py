"""Replicas that are replaced while clients ask, and what is left of their requests."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from redis import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import PEPPER
from tests.support.replica import Replica
from tests.support.worker_process import WorkerProcess

WITHIN_SECONDS = 60.0  # only spent on failure
POLL_SECONDS = 0.1  # what is asked has more to do
WORDS = 40
PACE_SECONDS = 0.05  # each answer takes 2 s
WHOLE = "word " * WORDS


class Key(NamedTuple):
    """`tenant` is of this key alone."""

    secret: str
    tenant: str


async def new_key(engine: AsyncEngine) -> Key:
    """With a limit of concurrency, so that its requests have leases."""
    keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
    tenant = f"tenant-{uuid4().hex}"
    draft = KeyDraft(name="test", tenant=tenant, policy=Policy(concurrency=1_000))
    return Key((await keys.create(draft)).secret, tenant)


@asynccontextmanager
async def workers(count: int) -> AsyncIterator[Sequence[WorkerProcess]]:
    """That answer all alike: WHOLE."""
    async with AsyncExitStack() as stack:
        made = [WorkerProcess(pieces=WORDS, pace_seconds=PACE_SECONDS) for _ in range(count)]
        await asyncio.gather(*(stack.enter_async_context(each) for each in made))
        yield made


@asynccontextmanager
async def replicas(
    count: int,
    home: Path,
    asked: Iterable[WorkerProcess],
    *,
    code: Path | None = None,
    **settings: object,
) -> AsyncIterator[Sequence[Replica]]:
    """In front of the workers `asked`; what a test leaves of them is killed."""
    given = {"workers": json.dumps([worker.url for worker in asked])} | settings
    made = [Replica(home, given) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for replica in made:
            stack.push_async_callback(replica.kill)
        await asyncio.gather(*(replica.start(code) for replica in made))
        yield made


async def is_busy(replica: Replica) -> None:
    """Returns once requests run there."""

    async def busy() -> bool | None:
        return True if await replica.running_requests() else None

    await eventually_found(busy, WITHIN_SECONDS, "the replica has requests", every=POLL_SECONDS)


async def has_begun_one(engine: AsyncEngine, replica: Replica) -> None:
    """Returns once the record of a request that runs there has reached the database."""
    query = text(
        "SELECT writer FROM audit_events AS begun WHERE kind = 1 AND NOT EXISTS ("
        "SELECT FROM audit_events AS e WHERE e.kind = 2 AND e.request_id = begun.request_id)"
    )

    async def begun() -> bool | None:
        async with engine.connect() as connection:
            writers = await connection.scalars(query)
        return any((replica.spool / writer).exists() for writer in writers) or None

    what = "a request of the replica is on record"
    await eventually_found(begun, WITHIN_SECONDS, what, every=POLL_SECONDS)


async def outcomes(
    engine: AsyncEngine, tenant: str, seen: Iterable[str], *expected: str
) -> dict[str, list[str]]:
    """The sorted ids of the tenant's requests on record, by outcome, once each has one, `seen` are
    there, and some with each of the outcomes `expected`."""
    query = text(
        "SELECT outcome, request_id FROM audit_records WHERE tenant = :tenant ORDER BY request_id"
    )
    missing = set(seen)

    async def found() -> dict[str, list[str]] | None:
        by_outcome: dict[str, list[str]] = {}
        async with engine.connect() as connection:
            for outcome, request_id in await connection.execute(query, {"tenant": tenant}):
                by_outcome.setdefault(outcome or "running", []).append(request_id)
        missing.difference_update(*by_outcome.values())
        whole = not missing and "running" not in by_outcome and by_outcome.keys() >= {*expected}
        return by_outcome if whole else None

    what = "records with an outcome of all requests"
    return await eventually_found(found, WITHIN_SECONDS, what, every=POLL_SECONDS)


async def no_leases(redis_url: str) -> None:
    """Returns once no request counts as running any more, of any key or tenant."""

    def running() -> int:
        with Redis.from_url(redis_url) as redis:
            now_us = int(time.time() * 1_000_000)
            return sum(redis.zcount(name, now_us, "+inf") for name in redis.scan_iter("*:leases"))

    await eventually(lambda: running() == 0, WITHIN_SECONDS, "no leases are left")
