"""Budgets over all replicas, in both servers, and how they are counted anew."""

import math
from datetime import UTC, datetime, timedelta

from app.limits.shared import SharedLimits
from app.limits.subjects import Scope, Spending, Uncounted
from tests.integration.limits.asking import admitted, count_budget, decide, refused
from tests.integration.limits.conftest import Stored
from tests.support.limited import counted, demand, key, tenant
from tests.support.redis_moments import Moment

HOUR, DAY = 3600, 86_400


async def test_a_budget_that_nobody_counted_is_not_spent(limits: SharedLimits) -> None:
    mine, all_of_us = key(tokens_per_minute=100), tenant(tokens_per_month=500)
    for _ in range(2):
        assert await limits.admit(demand(mine, all_of_us, tokens=10)) == Uncounted(all_of_us)
    assert await admitted(limits, counted(mine, all_of_us))
    await count_budget(limits, all_of_us, 0, 480)
    decision = await decide(limits, demand(mine, all_of_us, tokens=10))
    assert decision.budget_left == (None, 10)
    refusal = await refused(limits, demand(mine, all_of_us, tokens=20))
    # What runs holds 10, which may come back: that is worth a second's wait.
    assert (refusal.scope, refusal.used, refusal.wait_seconds) == (Scope.MONTH, 490, 1.0)
    refusal = await refused(limits, demand(mine, all_of_us, tokens=30))
    assert refusal.wait_seconds is None


async def test_a_lease_that_ends_while_the_budget_is_unknown_leaves_nothing_held(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    """Redis was emptied, the request was held again, and then its replica died."""
    mine, all_of_us = key(tokens_per_day=1000), tenant(concurrency=5)
    for subject in (mine, all_of_us):
        await limits.renew(subject, {"req_dead": 400})
    moment.step(30)
    assert await limits.admit(demand(mine, all_of_us, tokens=10)) == Uncounted(mine)
    for subject in (mine, all_of_us):
        assert stored.number(subject, "h") == 0
        assert stored.leases(subject) == {}
    await count_budget(limits, mine)
    assert await admitted(limits, demand(mine, all_of_us, tokens=1000))


async def test_what_a_request_holds_is_never_kept_longer_than_the_lease_that_can_end_it(
    limits: SharedLimits, stored: Stored
) -> None:
    subject = key(tokens_per_day=1000)
    await count_budget(limits, subject)
    assert await admitted(limits, demand(subject, tokens=10))
    state, leases = stored.lives_seconds(subject)
    assert 31 * DAY < state < leases
    await limits.renew(subject, {"req_again": 5})
    state, leases = stored.lives_seconds(subject)
    assert 31 * DAY < state < leases


async def test_days_and_months_of_utc_begin_anew(limits: SharedLimits, moment: Moment) -> None:
    mine = key(tokens_per_day=100, tokens_per_month=150)
    moment.us = _us(datetime(2027, 1, 30, 23, 59, 59, tzinfo=UTC))
    await count_budget(limits, mine, 60, 60)
    assert (await refused(limits, demand(mine, tokens=41))).scope is Scope.DAY
    moment.step(1)
    one = demand(mine, tokens=80)
    assert (await decide(limits, one)).budget_left == (10,)
    await limits.settle(one, Spending(80))
    assert (await refused(limits, demand(mine, tokens=11))).scope is Scope.MONTH
    moment.step(DAY)
    assert (await decide(limits, demand(mine, tokens=1))).budget_left == (99,)


async def test_a_budget_counts_the_months_as_the_calendar_does(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    subject = key(tokens_per_month=100)
    day = datetime(1999, 12, 31, tzinfo=UTC)
    while day.year < 2101:
        moment.us = _us(day)
        await count_budget(limits, subject)
        state = stored.state(subject)
        assert int(state["m"]) == day.year * 12 + day.month - 1
        assert int(state["d"]) == moment.us // (DAY * 1_000_000)
        month_end = day.replace(day=28) + timedelta(days=4)
        month_end -= timedelta(days=month_end.day)
        day = month_end if day < month_end else day + timedelta(days=1)


async def test_a_clock_that_steps_back_over_midnight_gives_no_budget_away(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(tokens_per_day=100, tokens_per_month=100)
    moment.us = _us(datetime(2027, 2, 1, 0, 10, tzinfo=UTC))
    await count_budget(limits, subject, 100, 100)
    moment.step(-HOUR)
    assert await limits.admit(demand(subject, tokens=1)) == Uncounted(subject)
    moment.step(HOUR)
    assert await limits.admit(demand(subject, tokens=1)) == Uncounted(subject)


async def test_what_is_settled_while_a_budget_is_counted_is_not_lost(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    subject = key(tokens_per_day=1000)
    await count_budget(limits, subject)
    requests = [demand(subject, tokens=100) for _ in range(3)]
    for each in requests:
        assert await admitted(limits, each)
    settled = await limits.settle(requests[0], Spending(30, 20))
    assert settled.due == (subject,)
    began = await limits.begin_recount(subject)
    assert began is not None
    assert settled.at <= began
    moment.step(0.1)
    await limits.settle(requests[1], Spending(7, 5))
    assert await limits.begin_recount(subject) is None  # one at a time
    assert await limits.finish_recount(subject, began, 50, 50)
    assert [stored.number(subject, field) for field in ("ds", "ms", "u", "h")] == [57, 57, 5, 100]
    assert not await limits.finish_recount(subject, began, 50, 50)


async def test_a_recount_that_was_given_up_keeps_nobody_waiting(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(tokens_per_day=1000)
    began = await limits.begin_recount(subject)
    assert began is not None
    await limits.abandon_recount(subject, began - 1)  # another one
    assert await limits.begin_recount(subject) is None
    await limits.abandon_recount(subject, began)
    moment.step(0.001)
    again = await limits.begin_recount(subject)
    assert again is not None
    assert not await limits.finish_recount(subject, began, 0, 0)
    moment.step(30)
    assert await limits.begin_recount(subject) is not None  # its replica died


async def test_a_recount_that_can_wait_makes_room_for_one_that_cannot(
    limits: SharedLimits, moment: Moment
) -> None:
    """Redis came back empty: the budget is not known, and requests wait for it."""
    subject = key(tokens_per_day=1000)
    waiting = await limits.begin_recount(subject, patient=True)
    assert waiting is not None
    moment.step(0.001)
    assert await limits.begin_recount(subject, patient=True) is None
    urgent = await limits.begin_recount(subject)
    assert urgent is not None
    moment.step(0.001)
    for patient in (False, True):
        assert await limits.begin_recount(subject, patient=patient) is None
    assert not await limits.finish_recount(subject, waiting, 5, 5)
    assert await limits.finish_recount(subject, urgent, 7, 7)
    assert (await decide(limits, counted(subject))).budget_left == (993,)


async def test_a_recount_over_midnight_or_over_a_step_back_is_done_again(
    limits: SharedLimits, moment: Moment
) -> None:
    subject = key(tokens_per_day=1000)
    moment.us = _us(datetime(2027, 1, 30, 23, 59, 59, tzinfo=UTC))
    for seconds in (1.0, -1.0):
        began = await limits.begin_recount(subject)
        assert began is not None
        moment.step(seconds)
        assert not await limits.finish_recount(subject, began, 0, 0)
        assert await limits.admit(demand(subject, tokens=1)) == Uncounted(subject)
        moment.step(60)


async def test_a_log_that_is_behind_gives_back_nothing_that_was_counted(
    limits: SharedLimits, moment: Moment, stored: Stored
) -> None:
    subject = key(tokens_per_day=1000)
    await count_budget(limits, subject, 300, 400)
    moment.step(1)
    await count_budget(limits, subject, 250, 450)
    assert [stored.number(subject, field) for field in ("ds", "ms")] == [300, 450]
    moment.step(DAY)
    await count_budget(limits, subject, 10, 460)
    assert [stored.number(subject, field) for field in ("ds", "ms")] == [10, 460]


async def test_late_spending_is_left_to_the_recount(limits: SharedLimits, stored: Stored) -> None:
    subject = key(tokens_per_minute=1000, tokens_per_day=1000)
    await count_budget(limits, subject)
    one = demand(subject, tokens=500)
    assert await admitted(limits, one)
    settled = await limits.settle(one, Spending(200, late=True))
    assert settled.due == (subject,)
    assert [stored.number(subject, field) for field in ("ds", "h", "t")] == [0, 0, 200]


async def test_a_request_that_redis_lost_is_held_again_and_brings_no_tokens_back(
    limits: SharedLimits, stored: Stored
) -> None:
    subject = key(tokens_per_minute=1000, concurrency=2, tokens_per_day=5000)
    old = demand(subject, tokens=900)
    await limits.renew(subject, {old.request_id: 900})
    await count_budget(limits, subject)
    decision = await decide(limits, demand(subject, tokens=1000))
    assert decision.budget_left == (3100,)
    assert not await admitted(limits, demand(subject))
    await limits.settle(old, Spending(50))
    assert [stored.number(subject, field) for field in ("ds", "h")] == [50, 1000]
    assert not await admitted(limits, demand(subject, tokens=1))


def _us(moment: datetime) -> int:
    return math.floor(moment.timestamp()) * 1_000_000
