from app.limits.share import Share
from app.store.policy import Limits
from tests.support.limited import demand, key, tenant


def test_a_share_is_a_part_of_every_limit_and_never_none_of_it() -> None:
    share = Share(3, 0.5)
    whole = key(requests_per_minute=100, tokens_per_minute=2, concurrency=3, tokens_per_day=6000)
    assert share.of(whole).limits == Limits(
        requests_per_minute=33, tokens_per_minute=1, concurrency=1, tokens_per_day=1000
    )
    assert share.of(key(concurrency=7)).limits == Limits(concurrency=2)
    assert share.of(whole) == whole  # the same subject


def test_of_two_budgets_the_lower_one_is_shared() -> None:
    share = Share(2, 0.1)
    subject = key(tokens_per_day=10_000, tokens_per_month=1_000)
    assert share.of(subject).limits == Limits(tokens_per_day=50)


def test_no_more_of_a_budget_is_shared_than_was_left() -> None:
    share = Share(2, 0.5)
    mine, all_of_us = key(tokens_per_day=1000), tenant(tokens_per_month=1000)
    share.saw((mine, all_of_us), (100, None))
    limits = [subject.limits.tokens_per_day for subject in (share.of(mine), share.of(all_of_us))]
    assert limits == [50, 250]
    share.saw((mine,), (0,))
    assert share.of(mine).limits.tokens_per_day == 1


def test_a_demand_is_asked_of_the_same_subjects_at_their_shares() -> None:
    share = Share(2, 0.5)
    asked = demand(key(concurrency=4), tenant(concurrency=8), tokens=5)
    shared = share.of_demand(asked)
    assert (shared.request_id, shared.tokens) == (asked.request_id, 5)
    assert [subject.limits.concurrency for subject in shared.subjects] == [2, 4]
