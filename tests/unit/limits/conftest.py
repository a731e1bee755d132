from collections.abc import AsyncIterator

import pytest

from tests.unit.limits.outages import Clock, FakeRedis, Ledger, Replica


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis(clock: Clock) -> FakeRedis:
    return FakeRedis(clock)


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return Ledger(clock)


@pytest.fixture
async def replica(redis: FakeRedis, ledger: Ledger, clock: Clock) -> AsyncIterator[Replica]:
    replica = Replica(redis, ledger, clock)
    replica.start()
    yield replica
    await replica.stop()
