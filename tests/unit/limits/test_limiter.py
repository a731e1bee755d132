"""The limits of a replica while Redis goes, answers nobody, and comes back."""

import asyncio

import pytest

from app.errors import RateLimited, Unavailable
from app.limits.breaker import FAILURES_TO_OPEN, GOOD_PROBES_TO_CLOSE
from app.limits.leases import Admission
from app.limits.refusals import BudgetUnknown, LimitReached, QuotaReached
from app.limits.subjects import Demand, Spending, Subject
from tests.support.limited import counted, demand, key, tenant
from tests.unit.limits.outages import (
    BUDGET_SHARE,
    DELAY_SECONDS,
    LEASE_SECONDS,
    Clock,
    FakeRedis,
    Ledger,
    Replica,
    settle_down,
)


async def admissions(replica: Replica, subject: Subject, tries: int, tokens: int = 0) -> int:
    passed = 0
    for _ in range(tries):
        try:
            await replica.limiter.admit(demand(subject, tokens=tokens))
            passed += 1
        except (RateLimited, BudgetUnknown):
            continue
    return passed


async def lose_redis(replica: Replica) -> None:
    """By requests of a key that nothing else is about."""
    replica.redis.away = True
    await admissions(replica, key("key_first", requests_per_minute=1000), FAILURES_TO_OPEN)
    assert replica.limiter.degraded


def settled_once(redis: FakeRedis) -> int:
    return redis.calls.count("settle")


async def test_without_limits_nobody_is_asked(replica: Replica, redis: FakeRedis) -> None:
    admission = await replica.limiter.admit(demand())
    await replica.limiter.settle(admission, Spending(5))
    await replica.limiter.count(counted())
    assert redis.calls == []


async def test_a_request_is_settled_once_however_often_it_ends(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(tokens_per_minute=100)
    admission = await replica.limiter.admit(demand(subject, tokens=100))
    assert replica.limiter.running == 1
    for _ in range(3):
        await replica.limiter.settle(admission, Spending(10))
    assert settled_once(redis) == 1
    assert (replica.limiter.running, redis.taken(subject)) == (0, pytest.approx(10, abs=0.01))


async def test_after_a_few_failures_in_a_row_nobody_asks_redis(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(requests_per_minute=1000)
    redis.away = True
    await admissions(replica, subject, FAILURES_TO_OPEN - 1)
    assert not replica.limiter.degraded
    redis.away = False
    await admissions(replica, subject, 1)
    redis.away = True
    await admissions(replica, subject, FAILURES_TO_OPEN)
    assert replica.limiter.degraded
    assert replica.sample("gateway_limits_degraded") == 1
    calls = len(redis.calls)
    assert await admissions(replica, subject, 50) == 50
    assert len(redis.calls) == calls


async def test_only_several_good_probes_in_a_row_bring_redis_back(
    replica: Replica, redis: FakeRedis
) -> None:
    await lose_redis(replica)
    redis.away = False
    for _ in range(GOOD_PROBES_TO_CLOSE - 1):
        await replica.beat()
    redis.away = True
    await replica.beat()
    assert replica.limiter.degraded
    await replica.come_back()
    assert replica.sample("gateway_limits_degraded") == 0


async def test_replicas_together_enforce_no_more_than_the_limit_and_each_some_of_it(
    redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    replicas = [Replica(redis, ledger, clock) for _ in range(3)]
    for each in replicas:
        each.start()
        await each.beat(replicas=3)
        await lose_redis(each)
        redis.away = False
    redis.away = True
    subject = key(requests_per_minute=30, concurrency=100)
    passed = [await admissions(each, subject, 40) for each in replicas]
    assert passed == [10, 10, 10]
    few = key("key_few", requests_per_minute=1)
    assert [await admissions(each, few, 5) for each in replicas] == [1, 1, 1]
    odd = key("key_odd", concurrency=4)
    assert [await admissions(each, odd, 5) for each in replicas] == [1, 1, 1]
    for each in replicas:
        await each.stop()


async def test_a_budget_spends_its_allowance_of_one_outage_and_then_closes(
    replica: Replica, redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    subject = key(tokens_per_day=10_000, tokens_per_month=100_000)
    ledger.add(clock.at, 1000)
    await replica.settle(await replica.limiter.admit(demand(subject, tokens=100)), 100)
    await lose_redis(replica)
    allowance = int(10_000 * BUDGET_SHARE)
    passed = 0
    while passed < 100:
        try:
            admission = await replica.limiter.admit(demand(subject, tokens=100))
        except BudgetUnknown as unknown:
            assert (unknown.status, unknown.code) == (503, "budget_unavailable")
            break
        await replica.settle(admission, 100)
        passed += 1
    assert passed == allowance // 100
    await replica.come_back()
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(subject) == (1100 + allowance, 0)


async def test_an_outage_gives_no_budget_that_was_spent_before(
    replica: Replica, ledger: Ledger, clock: Clock
) -> None:
    subject = key(tokens_per_day=10_000)
    ledger.add(clock.at, 9_950)
    await replica.settle(await replica.limiter.admit(demand(subject, tokens=10)), 10)
    await lose_redis(replica)
    assert await admissions(replica, subject, 1, tokens=41) == 0
    assert await admissions(replica, subject, 1, tokens=40) == 1


async def test_a_long_request_that_began_before_closes_no_budget_during_an_outage(
    replica: Replica,
) -> None:
    subject = key(tokens_per_day=10_000, tokens_per_minute=10_000)
    await replica.limiter.admit(demand(subject, tokens=5_000))
    await lose_redis(replica)
    assert await admissions(replica, subject, 1, tokens=500) == 1


async def test_what_runs_through_an_outage_is_held_again_and_settled_once(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(concurrency=5, tokens_per_minute=10_000, tokens_per_day=10_000)
    before = await replica.limiter.admit(demand(subject, tokens=1000))
    await lose_redis(replica)
    during = await replica.limiter.admit(demand(subject, tokens=500))
    for _ in range(20):  # longer than a lease
        await replica.step(LEASE_SECONDS / 3)
        await replica.limiter.renew()
    redis.limits._states.clear()  # it comes back empty
    await replica.come_back()
    await replica.recounts.now(subject)
    assert redis.held(subject) == (1500, 2)
    settlements = settled_once(redis)
    await replica.settle(before, 700)
    await replica.settle(during, 20)
    await settle_down()
    assert settled_once(redis) == settlements + 2
    assert redis.held(subject) == (0, 0)
    assert redis.spent(subject) == (720, 0)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(subject) == (720, 0)


async def test_slots_of_what_runs_stay_taken_for_as_long_as_an_outage_lasts(
    replica: Replica,
) -> None:
    subject = key(concurrency=2)
    before = await replica.limiter.admit(demand(subject))
    await lose_redis(replica)
    await replica.limiter.admit(demand(subject))
    for _ in range(10):
        await replica.step(LEASE_SECONDS / 3)
        await replica.limiter.renew()
        assert await admissions(replica, subject, 1) == 0
    await replica.limiter.settle(before, Spending(0))
    assert await admissions(replica, subject, 2) == 1


async def test_what_ends_during_an_outage_is_settled_when_redis_is_back_and_once(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(concurrency=5, tokens_per_minute=10_000, tokens_per_day=10_000)
    running = [await replica.limiter.admit(demand(subject, tokens=1000)) for _ in range(4)]
    await replica.step(3 * DELAY_SECONDS)
    await lose_redis(replica)
    for admission in running:
        await replica.settle(admission, 100)
    assert redis.held(subject) == (4000, 4)
    settlements = settled_once(redis)
    await replica.come_back()
    for _ in range(3):
        await replica.beat()
    assert settled_once(redis) == settlements + 4
    assert redis.held(subject) == (0, 0)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(subject) == (400, 0)


async def test_a_settlement_that_nobody_heard_of_charges_once(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(tokens_per_minute=1000, tokens_per_day=10_000)
    admission = await replica.limiter.admit(demand(subject, tokens=500))
    redis.mute = True
    await replica.settle(admission, 300)
    redis.mute = False
    await replica.beat()
    await replica.step(3 * DELAY_SECONDS)
    assert redis.held(subject) == (0, 0)
    assert redis.spent(subject) == (300, 0)


@pytest.mark.parametrize("ends", ["at once", "after the next beat"])
async def test_an_admission_that_nobody_heard_of_leaves_nothing_held(
    replica: Replica, redis: FakeRedis, ends: str
) -> None:
    subject = key(concurrency=3, tokens_per_minute=10_000, tokens_per_day=10_000)
    await replica.recounts.now(subject)
    redis.mute = True
    admission = await replica.limiter.admit(demand(subject, tokens=1000))
    assert redis.held(subject) == (1000, 1)
    redis.mute = False
    if ends == "after the next beat":
        await replica.beat()
        assert redis.held(subject) == (1000, 1)
    await replica.settle(admission, 10)
    await replica.beat()
    assert redis.held(subject) == (0, 0)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(subject) == (10, 0)


async def test_a_refusal_by_the_share_leaves_nothing_held_of_what_redis_admitted(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(concurrency=10)
    await replica.beat(replicas=10)
    redis.mute = True
    first = await replica.limiter.admit(demand(subject))
    with pytest.raises(LimitReached):
        await replica.limiter.admit(demand(subject))
    redis.mute = False
    await replica.limiter.settle(first, Spending(0))
    await replica.beat(replicas=10)
    assert redis.held(subject) == (0, 0)


async def test_clients_that_leave_while_they_are_admitted_leave_nothing_held(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(concurrency=200, tokens_per_minute=10**6, tokens_per_day=10**6)
    await replica.recounts.now(subject)
    tasks = [
        asyncio.create_task(replica.limiter.admit(demand(subject, tokens=100))) for _ in range(200)
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(10):
        await settle_down()
    assert redis.held(subject) == (0, 0)
    assert replica.limiter.running == 0


async def test_a_client_that_leaves_while_its_request_is_settled_changes_nothing(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(tokens_per_minute=1000)
    admission = await replica.limiter.admit(demand(subject, tokens=1000))
    task = asyncio.create_task(replica.limiter.settle(admission, Spending(10)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settle_down()
    assert redis.held(subject) == (0, 0)
    assert redis.taken(subject) == pytest.approx(10, abs=0.1)


async def test_a_budget_that_nobody_knows_is_counted_once_for_all_who_ask(
    replica: Replica, redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    mine, all_of_us = key(tokens_per_day=1000), tenant(tokens_per_month=1000)
    ledger.add(clock.at, 900)
    asked = (replica.limiter.admit(demand(mine, all_of_us, tokens=10)) for _ in range(20))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Admission) for answer in answers) == 10
    refusals = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(refusal) for refusal in refusals} == {LimitReached}  # what runs may bring back
    assert ledger.queries == 4
    with pytest.raises(QuotaReached):
        await replica.limiter.admit(demand(mine, all_of_us, tokens=101))


async def test_a_log_that_cannot_be_read_refuses_and_takes_nothing(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    subject = key(requests_per_minute=5, tokens_per_minute=100, tokens_per_day=1000)
    ledger.away = True
    for _ in range(10):
        with pytest.raises(Unavailable):
            await replica.limiter.admit(demand(subject, tokens=10))
    assert not replica.limiter.degraded  # that is not about Redis
    ledger.away = False
    passed = await admissions(replica, subject, 10, tokens=10)
    assert passed == 5
    assert redis.held(subject) == (50, 5)


async def test_a_budget_that_another_replica_counts_is_waited_for(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    subject = key(tokens_per_day=1000)
    began = await redis.begin_recount(subject)
    assert began is not None
    waiting = asyncio.create_task(replica.limiter.admit(demand(subject, tokens=10)))
    await settle_down()
    assert not waiting.done()
    assert await redis.finish_recount(subject, began, 5, 5)
    assert (await waiting).budget_left == 985
    assert ledger.queries == 0


async def test_what_a_dead_replica_held_ends_as_what_the_log_says(
    replica: Replica, redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    """And as what was settled since."""
    subject = key(tokens_per_minute=10**6, tokens_per_day=10_000)
    await replica.settle(await replica.limiter.admit(demand(subject, tokens=50)), 50)
    await redis.admit(demand(subject, tokens=900))  # of the other replica
    ledger.add(clock.at, 123)
    await replica.step(LEASE_SECONDS)
    await replica.settle(await replica.limiter.admit(demand(subject, tokens=10)), 7, unsure=3)
    assert redis.spent(subject) == (180, 903) or redis.spent(subject) == (57, 903)
    for _ in range(10):
        await replica.settle(await replica.limiter.admit(demand(subject, tokens=10)), 1)
        await replica.step(2)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(subject) == (50 + 123 + 10 + 10, 0)


async def test_counting_is_never_refused_and_holds_nothing(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(requests_per_minute=2, tokens_per_day=10)
    for left in (1, 0, 0, 0):
        standing = await replica.limiter.count(counted(subject))
        assert standing.requests is not None
        assert standing.requests.remaining == left
    assert redis.held(subject) == (0, 0)
    redis.away = True
    standing = await replica.limiter.count(counted(subject))
    assert standing.requests is not None
    assert standing.requests.remaining == 1  # of the share


async def test_a_request_id_that_comes_twice_is_one_request(
    replica: Replica, redis: FakeRedis
) -> None:
    subject = key(concurrency=1, requests_per_minute=1)
    one = Demand("req_same", (subject,), 0)
    first, second = await replica.limiter.admit(one), await replica.limiter.admit(one)
    for admission in (first, second):
        await replica.limiter.settle(admission, Spending(0))
    assert redis.held(subject) == (0, 0)
