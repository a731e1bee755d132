"""Budgets are counted from an audit log whose records come late."""

import asyncio

import pytest

from app.errors import Unavailable
from app.limits import recounts as recounts_module
from app.limits.subjects import Spending, Subject
from tests.support.limited import demand, key
from tests.unit.limits.outages import DELAY_SECONDS, Clock, FakeRedis, Ledger, Replica, settle_down

SUBJECT = key(tokens_per_day=1000, tokens_per_month=5000)


async def used(redis: FakeRedis, ledger: Ledger, tokens: int, unsure: int = 0) -> None:
    """A request that was settled, here or by another replica."""
    one = demand(SUBJECT, tokens=tokens + unsure)
    await redis.admit(one)
    settled = await redis.settle(one, Spending(tokens, unsure))
    ledger.add(settled.at, tokens + unsure)


async def test_a_budget_that_nobody_knows_is_counted_by_day_and_month(
    replica: Replica, redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    ledger.add(clock.at - 40 * 86_400, 1)
    ledger.add(clock.at - 86_400, 20)
    ledger.add(clock.at, 300)
    await replica.recounts.now(SUBJECT)
    assert redis.spent(SUBJECT) == (300, 0)
    budget = redis.limits._states[SUBJECT].budget
    assert budget is not None
    assert budget.month_tokens == 320


async def test_what_was_settled_and_is_not_written_yet_is_not_lost(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    await replica.recounts.now(SUBJECT)
    await replica.step(3 * DELAY_SECONDS)
    ledger.lag_seconds = DELAY_SECONDS - 1
    replica.recounts.due(SUBJECT)
    for _ in range(10):
        await used(redis, ledger, 10)
        await replica.step(1)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.calls.count("finish_recount") == 3
    assert redis.spent(SUBJECT) == (100, 0)


async def test_what_was_not_written_when_an_unknown_budget_was_counted_is_counted_later(
    replica: Replica, redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    ledger.lag_seconds = DELAY_SECONDS - 1
    ledger.add(clock.at, 70)
    await replica.recounts.now(SUBJECT)
    assert redis.spent(SUBJECT) == (0, 0)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(SUBJECT) == (70, 0)


async def test_what_was_unsure_ends_as_what_the_log_says(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    await replica.recounts.now(SUBJECT)
    await replica.step(3 * DELAY_SECONDS)
    await used(redis, ledger, 10, unsure=40)
    assert redis.spent(SUBJECT) == (10, 40)
    replica.recounts.due(SUBJECT)
    await replica.step(DELAY_SECONDS + 1)
    await used(redis, ledger, 1, unsure=2)  # while it is counted
    await replica.step(DELAY_SECONDS + 1)
    assert redis.spent(SUBJECT) == (51, 2)


async def test_what_is_due_many_times_is_counted_once(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    for _ in range(5):
        replica.recounts.due(SUBJECT, key("key_b", requests_per_minute=5), SUBJECT)
        await replica.step(1)
    await replica.step(DELAY_SECONDS)
    assert redis.calls.count("begin_recount") == 1
    assert ledger.queries == 2
    assert replica.sample("gateway_budget_recounts_total", outcome="done") == 1


async def test_a_record_that_is_later_than_any_delay_gives_nothing_away(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    await replica.recounts.now(SUBJECT)
    ledger.lag_seconds = 1000 * DELAY_SECONDS
    await used(redis, ledger, 100)
    replica.recounts.due(SUBJECT)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(SUBJECT) == (100, 0)


async def test_many_subjects_are_counted_side_by_side(replica: Replica, redis: FakeRedis) -> None:
    subjects = [key(f"key_{number}", tokens_per_day=10) for number in range(50)]
    replica.recounts.due(*subjects)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.calls.count("finish_recount") == 50


async def test_a_log_that_cannot_be_read_is_asked_again_and_the_loop_lives(
    replica: Replica, redis: FakeRedis, ledger: Ledger
) -> None:
    ledger.away = True
    replica.recounts.due(SUBJECT)
    await replica.step(3 * DELAY_SECONDS)
    assert replica.sample("gateway_budget_recounts_total", outcome="failed") == 1
    assert redis.calls[-1] == "abandon_recount"
    ledger.away = False
    await replica.step(3 * DELAY_SECONDS)
    assert redis.spent(SUBJECT) == (0, 0)
    redis.away = True
    replica.recounts.due(SUBJECT)
    await replica.step(3 * DELAY_SECONDS)
    redis.away = False
    await replica.step(3 * DELAY_SECONDS)
    assert replica.sample("gateway_budget_recounts_total", outcome="done") == 2


async def test_another_replica_that_counts_has_its_turn_first(
    replica: Replica, redis: FakeRedis, ledger: Ledger, clock: Clock
) -> None:
    began = await redis.begin_recount(SUBJECT)
    assert began is not None
    replica.recounts.due(SUBJECT)
    await replica.step(DELAY_SECONDS)
    assert await redis.finish_recount(SUBJECT, began, 0, 0)
    ledger.add(clock.at, 30)
    await replica.step(3 * DELAY_SECONDS)
    assert redis.calls.count("begin_recount") == 3
    assert redis.spent(SUBJECT) == (30, 0)


async def test_those_who_wait_for_the_same_budget_count_it_once(
    replica: Replica, ledger: Ledger
) -> None:
    await asyncio.gather(*(replica.recounts.now(SUBJECT) for _ in range(50)))
    assert ledger.queries == 2


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_count_that_was_broken_off_is_begun_by_the_next_at_once(
    replica: Replica, redis: FakeRedis, ledger: Ledger, how: str
) -> None:
    ledger.open.clear()
    first = asyncio.create_task(replica.recounts.now(SUBJECT))
    await settle_down()
    if how == "cancelled":
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        ledger.open.set()
    else:
        ledger.away = True
        ledger.open.set()
        with pytest.raises(Unavailable):
            await first
        ledger.away = False
    await replica.recounts.now(SUBJECT)
    assert redis.spent(SUBJECT) == (0, 0)
    assert redis.calls.count("begin_recount") == 2


async def test_no_more_is_remembered_than_there_is_room_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounts_module, "MAX_DUE_SUBJECTS", 3)
    replica.recounts.due(*(_budgeted(number) for number in range(5)))
    assert replica.sample("gateway_budget_recounts_total", outcome="dropped") == 2
    await replica.step(3 * DELAY_SECONDS)
    assert replica.sample("gateway_budget_recounts_total", outcome="done") == 3


def _budgeted(number: int) -> Subject:
    return key(f"key_{number}", tokens_per_day=1)
