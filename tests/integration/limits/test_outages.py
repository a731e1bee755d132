"""The limits as production runs them, beside a Redis that hangs, dies, and comes back empty."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from app.limits import heartbeat, start
from app.limits.limiter import Limiter
from app.limits.refusals import LimitReached
from app.limits.subjects import Demand, Spending, Subject
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.integration.limits.conftest import PREFIX, Stored
from tests.support.conditions import eventually
from tests.support.limited import demand, key, tenant
from tests.support.redis_server import RedisServer

WITHIN_SECONDS = 60.0  # only spent on failure
SUBJECTS = (
    key(requests_per_minute=1000, concurrency=50, tokens_per_day=10**6),
    tenant(tokens_per_minute=10**6, tokens_per_month=10**7),
)

Start = Callable[[], AbstractAsyncContextManager[Limiter]]


class Ledger:
    """An audit log."""

    def __init__(self) -> None:
        self.records: list[tuple[float, int]] = []

    async def charged_tokens(self, subject: Subject, since: float, until: float) -> int:
        return sum(tokens for at, tokens in self.records if since <= at <= until)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def starting(redis_server: RedisServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Start:
    """With a heart that beats faster, and a Redis that may be slow on a loaded machine."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "PROBE_JITTER", 0.0)
    monkeypatch.setattr(heartbeat, "OPEN_SECONDS", 0.3)
    monkeypatch.setattr(start, "RENEWALS_IN_A_LEASE", 100)
    settings = Settings(
        redis_url=redis_server.url,
        redis_prefix=PREFIX,
        redis_timeout_seconds=0.3,
        recount_delay_seconds=0.05,
    )

    @asynccontextmanager
    async def starting() -> AsyncIterator[Limiter]:
        async with start.limiting(settings, ledger, Metrics(CollectorRegistry())) as limiter:
            yield limiter

    return starting


def stored(redis_server: RedisServer) -> list[tuple[int, float]]:
    """Leases and held tokens of each subject."""
    with redis_server.client() as client:
        redis = Stored(client)
        return [(len(redis.leases(s)), redis.number(s, "h")) for s in SUBJECTS]


def spent(redis_server: RedisServer) -> list[tuple[float, float]]:
    with redis_server.client() as client:
        redis = Stored(client)
        return [(redis.number(s, "ms"), redis.number(s, "u")) for s in SUBJECTS]


async def admitted(limiter: Limiter, asked: Demand) -> bool:
    try:
        await limiter.admit(asked)
    except LimitReached:
        return False
    return True


async def lose(limiter: Limiter) -> None:
    for _ in range(3):
        await limiter.admit(demand(key("key_first", requests_per_minute=100)))
    await eventually(lambda: limiter.degraded, WITHIN_SECONDS, "Redis is given up")


async def exact(limiter: Limiter) -> None:
    await eventually(lambda: not limiter.degraded, WITHIN_SECONDS, "Redis is trusted again")


async def test_what_ran_through_a_hang_ends_as_if_there_had_been_none(
    starting: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    async with starting() as limiter:
        before = [await limiter.admit(demand(*SUBJECTS, tokens=100)) for _ in range(10)]
        redis_server.stop()
        await lose(limiter)
        during = [await limiter.admit(demand(*SUBJECTS, tokens=100)) for _ in range(10)]
        for admission in (*before[:5], *during[:5]):
            ledger.records.append((await limiter.settle(admission, Spending(7)), 7))
        redis_server.cont()
        await exact(limiter)
        await eventually(
            lambda: stored(redis_server) == [(10, 1000)] * 2, WITHIN_SECONDS, "the others are held"
        )
        for admission in (*before[5:], *during[5:]):
            ledger.records.append((await limiter.settle(admission, Spending(7)), 7))
        assert stored(redis_server) == [(0, 0)] * 2
        await eventually(
            lambda: spent(redis_server) == [(140, 0)] * 2, WITHIN_SECONDS, "all is counted"
        )


async def test_a_redis_that_comes_back_empty_is_told_what_runs_and_what_was_spent(
    starting: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    async with starting() as limiter:
        one, other = [await limiter.admit(demand(*SUBJECTS, tokens=100)) for _ in range(2)]
        ledger.records.append((await limiter.settle(one, Spending(30)), 30))
        redis_server.restart()
        await eventually(
            lambda: stored(redis_server) == [(1, 100)] * 2, WITHIN_SECONDS, "it is held again"
        )
        third = await limiter.admit(demand(*SUBJECTS, tokens=100))
        assert third.budget_left == 10**6 - 30 - 200
        for admission in (other, third):
            ledger.records.append((await limiter.settle(admission, Spending(5)), 5))
        assert stored(redis_server) == [(0, 0)] * 2
        await eventually(
            lambda: spent(redis_server) == [(40, 0)] * 2, WITHIN_SECONDS, "all is counted"
        )


async def test_clients_that_leave_before_they_are_admitted_hold_nothing(
    starting: Start, redis_server: RedisServer
) -> None:
    async with starting() as limiter:
        await limiter.settle(await limiter.admit(demand(*SUBJECTS, tokens=1)), Spending(0))
        tasks = [
            asyncio.create_task(limiter.admit(demand(*SUBJECTS, tokens=100))) for _ in range(200)
        ]
        for turn, task in enumerate(tasks):
            if not turn % 20:
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(
            lambda: stored(redis_server) == [(0, 0)] * 2, WITHIN_SECONDS, "nothing is held"
        )
        assert limiter.running == 0


async def test_a_gateway_starts_and_stops_without_redis_and_finds_it_later(
    starting: Start, redis_server: RedisServer
) -> None:
    redis_server.kill()
    async with starting() as limiter:
        assert limiter.degraded
        subject = key(requests_per_minute=5)
        passed = [await admitted(limiter, demand(subject)) for _ in range(8)]
        assert passed.count(True) == 5
        redis_server.start()
        await exact(limiter)
        passed = [await admitted(limiter, demand(subject)) for _ in range(8)]
        assert passed.count(True) == 5
    redis_server.stop()
    async with starting() as limiter:
        assert limiter.degraded


async def test_two_replicas_admit_the_limit_together_and_see_each_other(
    starting: Start, redis_server: RedisServer
) -> None:
    subject = key(requests_per_minute=6)  # one more in 10 s
    async with starting() as one, starting() as other:
        asked = [admitted(limiter, demand(subject)) for limiter in (one, other) * 40]
        assert (await asyncio.gather(*asked)).count(True) == 6
        with redis_server.client() as client:
            assert client.zcard(f"{PREFIX}replicas") == 2
    with redis_server.client() as client:
        assert client.zcard(f"{PREFIX}replicas") == 0
