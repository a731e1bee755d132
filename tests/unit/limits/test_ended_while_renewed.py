"""A request that ends while its leases are renewed: Redis may hear of its end first, and then take
it up again."""

from collections.abc import Awaitable, Callable, Mapping

import pytest

from app.limits.enforcer import LimitsUnavailable
from app.limits.subjects import Demand, Subject, SubjectKind
from app.store.policy import Limits
from tests.unit.limits.outages import Clock, FakeRedis, Ledger, Replica, settle_down

KEY = Subject(SubjectKind.KEY, "key_1", "acme", Limits(tokens_per_minute=1_000, concurrency=1))
DEMAND = Demand("req_1", (KEY,), 100)


class Reordering(FakeRedis):
    """Renews after what came while it was asked to, as where only that script has to be taught."""

    meanwhile: Callable[[], Awaitable[None]]
    fails = False

    async def renew(self, subject: Subject, holds: Mapping[str, int]) -> None:
        await self.meanwhile()
        await super().renew(subject, holds)
        if self.fails:
            raise LimitsUnavailable("it was done, and nobody heard of it")


@pytest.fixture
def redis(clock: Clock) -> Reordering:
    return Reordering(clock)


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_stays_held_of_it(fails: bool, redis: Reordering, replica: Replica) -> None:
    admission = await replica.limiter.admit(DEMAND)
    redis.fails = fails

    async def end() -> None:
        await replica.settle(admission, 30)

    redis.meanwhile = end
    try:
        await replica.limiter.renew()
    except LimitsUnavailable:
        assert fails
    await settle_down()
    assert redis.held(KEY) == (0, 0)
    assert redis.taken(KEY) == pytest.approx(30, abs=0.1)  # and it is charged once


async def test_one_that_goes_on_is_held_on(
    redis: Reordering, replica: Replica, ledger: Ledger
) -> None:
    await replica.limiter.admit(DEMAND)

    async def nothing() -> None:
        pass

    redis.meanwhile = nothing
    await replica.limiter.renew()
    await settle_down()
    assert redis.held(KEY) == (100, 1)
    assert "settle" not in redis.calls
