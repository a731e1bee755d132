"""What limits in this process do besides what they do in Redis; the rest is in the laws of both."""

import pytest

from app.limits.local import BUDGET_KEPT_SECONDS, LocalLimits
from app.limits.subjects import Decision, Scope, Spending, Subject, Uncounted
from tests.support.limited import counted, demand, key, tenant
from tests.support.redis_moments import Moment

LEASE_SECONDS = 30.0


@pytest.fixture
def moment() -> Moment:
    return Moment(1_800_000_000_000_000)


@pytest.fixture
def limits(moment: Moment) -> LocalLimits:
    return LocalLimits(moment, lease_seconds=LEASE_SECONDS, recount_seconds=30)


@pytest.fixture
def stand_in(moment: Moment) -> LocalLimits:
    return LocalLimits(moment, lease_seconds=LEASE_SECONDS, recount_seconds=30, standing_in=True)


async def admitted(limits: LocalLimits, subject: Subject, **demanded: int) -> bool:
    return (await decide(limits, subject, **demanded)).refusal is None


async def decide(limits: LocalLimits, subject: Subject, **demanded: int) -> Decision:
    decision = await limits.admit(demand(subject, **demanded))  # type: ignore[arg-type]  # tokens, requests
    assert isinstance(decision, Decision)
    return decision


async def test_idle_subjects_are_forgotten_and_running_ones_are_not(
    limits: LocalLimits, moment: Moment
) -> None:
    running = key("key_running", tokens_per_minute=100, concurrency=1)
    assert await admitted(limits, running, tokens=100)
    for number in range(1000):
        one = demand(key(f"key_{number}", tokens_per_minute=100), tokens=1)
        await limits.admit(one)
        await limits.settle(one, Spending(1))
        moment.step(1)
        if not number % 10:
            await limits.renew(running, {"req_running": 100})
    assert limits.subjects <= 75
    assert not await admitted(limits, running, tokens=1)


async def test_a_request_that_is_never_settled_is_forgotten_some_day(
    limits: LocalLimits, moment: Moment
) -> None:
    await limits.admit(demand(key("key_lost", concurrency=1)))
    moment.step(3600)
    for _ in range(10):
        await limits.admit(demand(key(concurrency=100)))
    assert limits.subjects == 1


async def test_a_budget_is_remembered_for_a_while_after_its_last_use(
    limits: LocalLimits, moment: Moment
) -> None:
    subject = key("key_budget", tokens_per_day=100)
    began = await limits.begin_recount(subject)
    assert began is not None
    await limits.finish_recount(subject, began, 60, 60)
    moment.step(BUDGET_KEPT_SECONDS - 1)
    await limits.admit(counted(key(requests_per_minute=1)))
    assert not await admitted(limits, subject, tokens=50)
    moment.step(BUDGET_KEPT_SECONDS + 1)
    await limits.admit(counted(key(requests_per_minute=1)))
    assert await limits.admit(demand(subject, tokens=50)) == Uncounted(subject)


@pytest.mark.parametrize("other", [False, True])
async def test_a_limit_that_changes_acts_at_once(
    limits: LocalLimits, moment: Moment, other: bool
) -> None:
    """Also on the way by which idle subjects are found."""
    await limits.admit(counted(key(requests_per_minute=600), requests=600))
    slow = key(requests_per_minute=6)
    assert not await admitted(limits, slow)
    moment.step(30)
    if other:
        await limits.admit(demand(key("key_other", requests_per_minute=1)))
    # What was missing is as many seconds as before, not as many requests.
    assert [await admitted(limits, slow) for _ in range(4)] == [True, True, True, False]


async def test_a_limit_that_is_taken_away_leaves_nothing_behind(limits: LocalLimits) -> None:
    assert await admitted(limits, key(requests_per_minute=5), requests=5)
    assert await admitted(limits, key(tokens_per_minute=5), tokens=1)
    assert await admitted(limits, key(requests_per_minute=5), requests=5)


async def test_a_stand_in_counts_no_budget_and_closes_it_when_it_is_spent(
    stand_in: LocalLimits,
) -> None:
    subject = key(tokens_per_day=100)
    one = demand(subject, tokens=60)
    assert isinstance(await stand_in.admit(one), Decision)
    await stand_in.settle(one, Spending(60))
    refusal = (await decide(stand_in, subject, tokens=50)).refusal
    assert refusal is not None
    assert (refusal.scope, refusal.wait_seconds) == (Scope.DAY, None)
    assert await admitted(stand_in, subject, tokens=40)


async def test_a_stand_in_lets_one_request_pass_that_is_larger_than_its_share(
    stand_in: LocalLimits, moment: Moment
) -> None:
    subject = key(tokens_per_minute=1000)
    one = demand(subject, tokens=5000)
    assert isinstance(await stand_in.admit(one), Decision)
    assert not await admitted(stand_in, subject, tokens=1)
    moment.step(240)
    assert not await admitted(stand_in, subject, tokens=1)  # it owes the rest
    moment.step(60)
    assert await admitted(stand_in, subject, tokens=1000)


async def test_what_ran_before_takes_slots_of_a_stand_in_and_none_of_its_allowance(
    stand_in: LocalLimits,
) -> None:
    subject = key(concurrency=2, tokens_per_minute=1000, tokens_per_day=100)
    await stand_in.renew(subject, {"req_before": 900})
    assert await admitted(stand_in, subject, tokens=100)
    refusal = (await decide(stand_in, subject)).refusal
    assert refusal is not None
    assert refusal.scope is Scope.CONCURRENCY


async def test_what_ran_before_brings_a_stand_in_no_tokens_that_it_never_took(
    stand_in: LocalLimits,
) -> None:
    subject = key(tokens_per_minute=1000, tokens_per_day=5000)
    before = demand(subject, tokens=900)
    await stand_in.renew(subject, {before.request_id: 900})
    assert await admitted(stand_in, subject, tokens=1000)
    await stand_in.settle(before, Spending(0))
    assert not await admitted(stand_in, subject, tokens=1)


async def test_a_tenant_and_its_keys_do_not_share_with_another(limits: LocalLimits) -> None:
    for name in ("acme", "other"):
        subjects = key("key_a", name, requests_per_minute=1), tenant(name, requests_per_minute=1)
        decision = await limits.admit(demand(*subjects))
        assert isinstance(decision, Decision)
        assert decision.refusal is None
