"""How many replicas share the limits, as far as one of them knows."""

from app.limits.limiter import LIFE_SECONDS
from tests.unit.limits.outages import Clock, FakeRedis, Ledger, Replica
from tests.unit.limits.test_limiter import lose_redis


async def test_it_is_what_the_last_heartbeat_counted(replica: Replica) -> None:
    await replica.step(LIFE_SECONDS)
    await replica.beat(3)
    assert replica.limiter.replicas == 3
    await replica.beat(2)
    assert replica.limiter.replicas == 2


async def test_the_first_one_back_after_an_outage_does_not_take_the_others_for_dead(
    replica: Replica,
) -> None:
    await replica.step(LIFE_SECONDS)
    await replica.beat(3)
    await lose_redis(replica)
    await replica.step(60)
    await replica.come_back(1)  # the heartbeats of the others ran out meanwhile
    assert replica.limiter.replicas == 3
    await replica.step(LIFE_SECONDS - 1)
    await replica.beat(2)
    assert replica.limiter.replicas == 3
    await replica.step(1)
    await replica.beat(2)
    assert replica.limiter.replicas == 2


async def test_a_new_one_believes_the_settings_until_all_had_time_to_be_heard(
    redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    replica = Replica(redis, ledger, clock, replicas=4)
    await replica.beat(1)
    assert replica.limiter.replicas == 4
    clock.at += LIFE_SECONDS
    await replica.beat(1)
    assert replica.limiter.replicas == 1
