"""Limits over all replicas, in both servers; what follows from any order of calls is in
tests/properties."""

import pytest

from app.limits.shared import SharedLimits
from app.limits.subjects import Demand, Scope, Spending
from tests.integration.limits.asking import admitted, count_budget, decide, refused
from tests.integration.limits.conftest import Stored
from tests.support.limited import counted, demand, key, tenant
from tests.support.redis_moments import Moment

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize("limit", [1, 7, 60])
async def test_a_burst_gets_the_limit_and_not_one_more(limits: SharedLimits, limit: int) -> None:
    subject = key(requests_per_minute=limit)
    passed = [await admitted(limits, demand(subject)) for _ in range(limit + 3)]
    assert passed == [True] * limit + [False] * 3


@pytest.mark.parametrize("limit", [7, 10**6, 10**12])
async def test_a_large_limit_is_as_exact_as_a_small_one(limits: SharedLimits, limit: int) -> None:
    subject = key(tokens_per_minute=limit)
    assert await admitted(limits, demand(subject, tokens=limit - 3))
    assert not await admitted(limits, demand(subject, tokens=4))
    assert await admitted(limits, demand(subject, tokens=2))
    decision = await decide(limits, demand(subject, tokens=1))
    assert decision.standing.tokens is not None
    assert decision.standing.tokens.remaining == 0
    assert not await admitted(limits, demand(subject, tokens=1))
    assert not await admitted(limits, demand(subject, tokens=limit + 1))


@pytest.mark.parametrize("limit", [1, 7, 999, 10**6, 10**12])
@pytest.mark.parametrize("cost", [1, 3, 500])
async def test_who_waits_as_told_is_admitted_and_who_comes_sooner_is_not(
    limits: SharedLimits, moment: Moment, limit: int, cost: int
) -> None:
    cost = min(cost, limit)
    subject = key(tokens_per_minute=limit)
    assert await admitted(limits, demand(subject, tokens=limit))
    wait = (await refused(limits, demand(subject, tokens=cost))).wait_seconds
    assert wait is not None
    assert wait == pytest.approx(cost * 60 / limit, abs=1.1e-6)
    if wait > 2e-6:  # shorter is nothing to a clock of microseconds
        moment.step(wait - 2e-6)
        assert not await admitted(limits, demand(subject, tokens=cost))
        moment.step(2e-6)
    else:
        moment.step(wait)
    assert await admitted(limits, demand(subject, tokens=cost))


async def test_a_limit_that_is_taken_away_leaves_nothing_behind(limits: SharedLimits) -> None:
    assert await admitted(limits, demand(key(requests_per_minute=1)))
    assert await admitted(limits, demand(key(tokens_per_minute=5), tokens=1))
    assert await admitted(limits, demand(key(requests_per_minute=1)))


async def test_a_limit_that_is_lowered_acts_at_once_on_what_is_missing(
    limits: SharedLimits, moment: Moment
) -> None:
    assert await admitted(limits, demand(key(requests_per_minute=600), requests=600))
    slow = key(requests_per_minute=6)
    moment.step(30)
    # What is missing is as many seconds as before, not as many requests.
    assert [await admitted(limits, demand(slow)) for _ in range(4)] == [True, True, True, False]


async def test_what_ends_after_a_limit_was_lowered_does_not_lower_it_again(
    limits: SharedLimits, moment: Moment
) -> None:
    fast, slow = key(tokens_per_minute=600), key(tokens_per_minute=60)
    begun = [demand(fast, tokens=200) for _ in range(3)]
    for each in begun:
        assert await admitted(limits, each)
    assert not await admitted(limits, demand(slow, tokens=10))
    for each in begun:
        await limits.settle(each, Spending(200))
        assert not await admitted(limits, demand(slow, tokens=10))
    moment.step(10)
    assert await admitted(limits, demand(slow, tokens=10))
    assert not await admitted(limits, demand(slow, tokens=1))


async def test_a_limit_that_is_raised_acts_at_once(limits: SharedLimits) -> None:
    assert await admitted(limits, demand(key(requests_per_minute=5), requests=5))
    assert await admitted(limits, demand(key(requests_per_minute=10), requests=5))


async def test_a_reset_is_when_the_bucket_is_full_again(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(requests_per_minute=60, tokens_per_minute=6000)
    standing = (await decide(limits, demand(subject, tokens=1500))).standing
    assert standing.requests is not None
    assert standing.tokens is not None
    assert (standing.requests.remaining, standing.requests.reset_seconds) == (59, 1.0)
    assert (standing.tokens.remaining, standing.tokens.reset_seconds) == (4500, 15.0)
    moment.step(15)
    standing = (await decide(limits, counted(subject, requests=0))).standing
    assert standing.tokens is not None
    assert (standing.tokens.remaining, standing.tokens.reset_seconds) == (6000, 0.0)


async def test_a_refusal_takes_nothing_of_any_limit(limits: SharedLimits, stored: Stored) -> None:
    mine = key(requests_per_minute=10, tokens_per_minute=1000, tokens_per_day=1000)
    all_of_us = tenant(requests_per_minute=10, tokens_per_minute=100)
    await count_budget(limits, mine)
    for _ in range(20):
        refusal = await refused(limits, demand(mine, all_of_us, tokens=101))
        assert (refusal.subject, refusal.scope) == (all_of_us, Scope.TOKENS)
    for subject in (mine, all_of_us):
        assert [stored.number(subject, field) for field in "rth"] == [0, 0, 0]
        assert stored.leases(subject) == {}


async def test_the_refusal_names_what_makes_one_wait_longest(limits: SharedLimits) -> None:
    mine = key(requests_per_minute=60, concurrency=1)
    all_of_us = tenant(requests_per_minute=1)
    assert await admitted(limits, demand(mine, all_of_us))
    refusal = await refused(limits, demand(mine, all_of_us))
    assert (refusal.subject, refusal.scope) == (all_of_us, Scope.REQUESTS)
    refusal = await refused(limits, demand(mine))
    assert (refusal.scope, refusal.limit, refusal.used) == (Scope.CONCURRENCY, 1, 1)
    assert (refusal.requested, refusal.wait_seconds) == (1, 1.0)
    refusal = await refused(limits, demand(mine, requests=0))
    assert refusal.requested == 1


async def test_the_same_request_asked_twice_takes_once(
    limits: SharedLimits, stored: Stored
) -> None:
    subject = key(requests_per_minute=1, tokens_per_minute=100, concurrency=1)
    one = demand(subject, tokens=100)
    for _ in range(3):
        assert await admitted(limits, one)
    assert (stored.number(subject, "r"), stored.number(subject, "t")) == (1, 100)
    assert len(stored.leases(subject)) == 1


async def test_settling_twice_gives_back_once(limits: SharedLimits, stored: Stored) -> None:
    subject = key(tokens_per_minute=100, tokens_per_day=1000)
    await count_budget(limits, subject)
    one, other = demand(subject, tokens=50), demand(subject, tokens=50)
    for each in (one, other):
        assert await admitted(limits, each)
    for _ in range(3):
        await limits.settle(one, Spending(10))
    assert [stored.number(subject, field) for field in ("t", "ds", "ms", "h")] == [60, 10, 10, 50]


async def test_an_overrun_is_owed(limits: SharedLimits) -> None:
    subject = key(tokens_per_minute=60)
    one = demand(subject, tokens=60)
    assert await admitted(limits, one)
    await limits.settle(one, Spending(100))
    refusal = await refused(limits, demand(subject, tokens=20))
    assert (refusal.used, refusal.wait_seconds) == (100, 60.0)


async def test_what_comes_back_fills_no_bucket_above_its_rim(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(tokens_per_minute=60)
    one = demand(subject, tokens=60)
    assert await admitted(limits, one)
    moment.step(50)
    await limits.settle(one, Spending(0))
    moment.step(DAY)
    assert not await admitted(limits, demand(subject, tokens=61))
    assert await admitted(limits, demand(subject, tokens=60))
    assert not await admitted(limits, demand(subject, tokens=1))


async def test_a_killed_replica_frees_its_slots_when_its_leases_end(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(concurrency=2)
    one, other = demand(subject), demand(subject)
    for each in (one, other):
        assert await admitted(limits, each)
    moment.step(20)
    await limits.renew(subject, {other.request_id: 0})
    moment.step(10)
    assert await admitted(limits, demand(subject))
    assert not await admitted(limits, demand(subject))


async def test_dead_leases_end_a_few_at_a_time_and_count_for_nothing_meanwhile(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    subject = key(concurrency=50, tokens_per_day=10**6)
    await count_budget(limits, subject)
    for _ in range(50):
        assert await admitted(limits, demand(subject, tokens=100))
    moment.step(30)
    assert await admitted(limits, demand(subject, tokens=100))
    assert len(stored.leases(subject)) == 31
    for _ in range(2):
        await limits.admit(counted(subject))
    assert len(stored.leases(subject)) == 1
    assert (stored.number(subject, "h"), stored.number(subject, "u")) == (100, 5000)


async def test_a_clock_an_hour_back_costs_at_most_a_window_and_frees_dead_leases_in_time(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    subject = key(requests_per_minute=6, concurrency=10)
    dead, alive = demand(subject), demand(subject)
    for each in (dead, alive, *(demand(subject) for _ in range(4))):
        assert await admitted(limits, each)
    moment.step(-HOUR)
    # Whatever comes first notices.
    await limits.settle(alive, Spending(0))
    refusal = await refused(limits, demand(subject))
    assert refusal.wait_seconds == 10.0
    moment.step(30)
    assert await admitted(limits, demand(subject))
    assert len(stored.leases(subject)) == 1
    moment.step(30)
    assert [await admitted(limits, demand(subject)) for _ in range(6)].count(True) == 5


@pytest.mark.parametrize("first", ["admit", "settle", "renew"])
async def test_whatever_script_meets_a_stepped_clock_first_leases_step_with_it(
    limits: SharedLimits, moment: Moment, stored: Stored, first: str
) -> None:
    subject = key(concurrency=10)
    dead, other = demand(subject), demand(subject)
    for each in (dead, other):
        assert await admitted(limits, each)
    moment.step(10 - HOUR)
    if first == "admit":
        await limits.admit(demand(subject))
    elif first == "settle":
        await limits.settle(other, Spending(0))
    else:
        await limits.renew(subject, {other.request_id: 0})
    assert stored.leases(subject)[dead.request_id] <= moment.us + 30_000_000
    moment.step(30)
    await limits.admit(counted(subject))
    assert dead.request_id not in stored.leases(subject)


async def test_what_an_admission_touches_does_not_grow_with_what_was_admitted(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    subject = key(
        requests_per_minute=10**6, tokens_per_minute=10**9, concurrency=5, tokens_per_day=10**9
    )
    await count_budget(limits, subject)
    sizes = set()
    for number in range(500):
        one = demand(subject, tokens=10)
        assert await admitted(limits, one)
        if number % 10:  # the others' replicas die
            await limits.settle(one, Spending(number % 7, number % 3))
        moment.step(10)
        if number > 10:
            sizes.add((len(stored.state(subject)), len(stored.leases(subject))))
    fields, leases = (max(sizes)[0], max(leases for _, leases in sizes))
    assert leases <= 2
    assert fields <= 13 + leases
    assert len(stored.redis.keys()) <= 2


async def test_replicas_are_counted_while_they_beat(limits: SharedLimits, moment: Moment) -> None:
    assert await limits.beat("one", 15) == 1
    assert await limits.beat("two", 15) == 2
    moment.step(10)
    assert await limits.beat("two", 15) == 2
    moment.step(5)
    assert await limits.beat("two", 15) == 1  # nobody heard of the other since
    assert await limits.beat("one", 15) == 2
    assert await limits.beat("one", 0) == 1
    moment.step(-HOUR)
    assert await limits.beat("three", 15) == 1  # the other beats again soon


async def test_a_minute_brings_the_burst_back_and_a_day_no_more(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(requests_per_minute=7)
    for seconds in (60, DAY):
        passed = [await admitted(limits, demand(subject)) for _ in range(9)]
        assert passed.count(True) == 7
        moment.step(seconds)


async def test_a_subject_without_a_budget_is_forgotten_once_its_buckets_are_full(
    limits: SharedLimits, stored: Stored
) -> None:
    subject = key(tokens_per_minute=60)
    one = demand(subject, tokens=60)
    assert await admitted(limits, one)
    await limits.settle(one, Spending(660))
    state, _ = stored.lives_seconds(subject)
    assert 660 < state <= 660 + 600


async def test_what_was_lost_and_taken_up_again_charges_no_bucket_though_it_held_nothing(
    limits: SharedLimits,
) -> None:
    subject = key(tokens_per_minute=1000)
    await limits.renew(subject, {"req_lost": 0})
    await limits.settle(Demand("req_lost", (subject,), 0), Spending(50))
    standing = (await decide(limits, counted(subject, requests=0))).standing
    assert standing.tokens is not None
    assert standing.tokens.remaining == 1000
