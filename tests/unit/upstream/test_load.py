"""What one worker is given, and what it is taken to have."""

import pytest

from app.upstream.load import Demand, LoadRules, Report, WorkerLoad
from app.upstream.reading import work_of


def load_of(**rules: int) -> WorkerLoad:
    values = {
        "prefill_tokens": 1_000,
        "long_prefill_tokens": 100,
        "long_prefills": 1,
        "report_seconds": 15,
        "max_streams": None,
    }
    return WorkerLoad(LoadRules(**(values | rules)))  # type: ignore[arg-type]  # whole seconds


def demand(cold: int, held: int | None = None) -> Demand:
    return Demand(cold, cold if held is None else held)


def test_a_second_long_prompt_waits_until_the_first_is_read() -> None:
    load = load_of()
    first = load.reserve(demand(200), 0.0)
    assert not load.has_room(demand(200), 0.0)
    assert load.has_room(demand(100), 0.0)
    load.began(first, 1.0)
    assert load.has_room(demand(200), 1.0)


def test_prompts_are_not_given_beyond_what_may_be_read_at_once() -> None:
    load = load_of(long_prefill_tokens=2_000)
    load.reserve(demand(600), 0.0)
    assert load.has_room(demand(400), 0.0)
    assert not load.has_room(demand(401), 0.0)


def test_what_is_in_the_cache_is_not_read_but_held() -> None:
    load = load_of()
    load.report(Report(0.0, capacity_tokens=1_000))
    load.reserve(demand(50, held=600), 0.0)
    assert load.has_room(demand(0, held=400), 0.0)
    assert not load.has_room(demand(0, held=401), 0.0)


def test_an_empty_worker_takes_what_is_larger_than_all_bounds() -> None:
    load = load_of()
    load.report(Report(0.0, capacity_tokens=1_000))
    huge = load.reserve(demand(5_000), 0.0)
    assert not load.has_room(demand(1), 0.0)
    load.free(huge)
    assert load.has_room(demand(1), 0.0)


def test_no_more_requests_than_it_may_have_at_once() -> None:
    load = load_of(max_streams=2)
    load.reserve(demand(1), 0.0)
    assert load.has_room(demand(1), 0.0)
    load.reserve(demand(1), 0.0)
    assert not load.has_room(demand(1), 0.0)


def test_a_reservation_is_freed_once_however_often_it_is_said() -> None:
    load = load_of()
    one, other = load.reserve(demand(10), 0.0), load.reserve(demand(20), 0.0)
    for _ in range(2):
        load.began(one, 1.0)
        load.free(one)
    assert (load.streams, load.prefill_tokens, load.held_tokens) == (1, 20, 20)
    load.free(other)
    load.began(other, 2.0)
    assert (load.streams, load.prefill_tokens, load.held_tokens) == (0, 0, 0)


def test_a_restarted_worker_starts_clean_and_old_reservations_free_nothing() -> None:
    load = load_of()
    load.report(Report(0.0, capacity_tokens=1_000, running=7, kv_usage=0.9))
    old = load.reserve(demand(200), 0.0)
    load.renew()
    assert load.has_room(demand(200), 0.0)
    new = load.reserve(demand(300), 0.0)
    load.began(old, 1.0)
    load.free(old)
    assert (load.streams, load.prefill_tokens, load.long_prefills) == (1, 300, 1)
    load.free(new)
    assert load.pressure(0.0) == 0
    assert load.capacity_tokens is None


def test_a_worker_that_begins_nothing_is_taken_to_read_what_we_do_not_know_of() -> None:
    load = load_of(prefill_tokens=10**9, long_prefill_tokens=10**9)
    load.began(load.reserve(demand(10_000), 0.0), 1.0)
    stuck = load.reserve(demand(5_000), 100.0)
    with_stream = load.pressure(100.0)
    assert load.pressure(100.4) == with_stream  # its own 5,000 take half a second
    assert load.pressure(103.0) == with_stream + 3 * work_of(10_000) - work_of(5_000)
    load.began(stuck, 104.0)
    assert load.pressure(200.0) < with_stream


class TestReports:
    def test_what_others_hold_is_not_there_for_us(self) -> None:
        load = load_of()
        ours = load.reserve(demand(10, held=300), 0.0)
        load.report(Report(0.0, capacity_tokens=1_000, kv_usage=0.8))
        assert load.has_room(demand(0, held=200), 0.0)
        assert not load.has_room(demand(0, held=201), 0.0)
        load.free(ours)  # of ours it no longer counts, whatever the report said
        load.reserve(demand(0, held=1), 0.0)
        assert load.has_room(demand(0, held=499), 0.0)

    def test_requests_of_others_count_where_only_so_many_may_be(self) -> None:
        load = load_of(max_streams=3)
        load.reserve(demand(1), 0.0)
        load.report(Report(0.0, running=2, waiting=1))
        assert not load.has_room(demand(1), 0.0)

    def test_an_old_one_says_nothing_but_the_size_of_the_cache(self) -> None:
        load = load_of()
        load.reserve(demand(1), 0.0)
        load.report(Report(0.0, capacity_tokens=1_000, kv_usage=1.0))
        assert not load.has_room(demand(1), 15.0)
        assert load.has_room(demand(1), 15.1)
        assert not load.is_known(15.1)
        assert not load.has_room(demand(0, held=1_000), 15.1)

    def test_a_worker_that_has_fallen_silent_does_not_look_idle(self) -> None:
        load = load_of()
        load.report(Report(0.0, running=5))
        assert not load.is_known(100.0)
        assert load.pressure(100.0) == 5_000


class TestRoomForWhoHasAClaim:
    def test_what_would_delay_it_is_not_let_in(self) -> None:
        load = load_of()
        load.report(Report(0.0, capacity_tokens=1_000))
        load.reserve(demand(0, held=400), 0.0)
        claim = demand(50, held=550)
        assert load.leaves_room(demand(0, held=50), claim, 0.0)
        assert not load.leaves_room(demand(0, held=51), claim, 0.0)

    def test_short_prompts_go_on_beside_the_long_one_that_it_waits_for(self) -> None:
        load = load_of()
        load.reserve(demand(900), 0.0)
        claim = demand(900)
        assert load.leaves_room(demand(50), claim, 0.0)
        assert not load.leaves_room(demand(101), claim, 0.0)

    def test_its_place_is_not_given_away_where_only_so_many_may_be(self) -> None:
        load = load_of(max_streams=3)
        load.reserve(demand(1), 0.0)
        assert load.leaves_room(demand(1), demand(1), 0.0)
        load.reserve(demand(1), 0.0)
        assert not load.leaves_room(demand(1), demand(1), 0.0)


class TestSpeed:
    def test_it_is_not_known_before_a_prompt_was_read_that_is_long_enough(self) -> None:
        load = load_of()
        assert load.prefill_tokens_per_second is None
        load.began(load.reserve(demand(100), 0.0), 1.0)
        assert load.prefill_tokens_per_second is None

    def test_prompts_that_are_read_together_share_it(self) -> None:
        load = load_of(prefill_tokens=100_000, long_prefill_tokens=50_000)
        both = [load.reserve(demand(10_000), 0.0) for _ in range(2)]
        load.began(both[0], 10.0)
        load.began(both[1], 20.0)
        speed = load.prefill_tokens_per_second
        assert speed == pytest.approx(work_of(10_000) / 10)

    def test_a_hit_that_nobody_expected_weighs_little(self) -> None:
        load = load_of(prefill_tokens=100_000, long_prefill_tokens=50_000)
        load.began(load.reserve(demand(10_000), 0.0), 10.0)
        load.began(load.reserve(demand(10_000), 20.0), 20.01)
        speed = load.prefill_tokens_per_second
        assert speed is not None
        assert speed < 1.3 * work_of(10_000) / 10

    def test_a_long_prompt_that_is_read_is_all_that_the_worker_reads(self) -> None:
        """Its end takes longer than its beginning: it is not taken for somebody else's."""
        load = load_of(prefill_tokens=10**9, long_prefill_tokens=10**9)
        load.began(load.reserve(demand(8_000), 0.0), 0.33)
        load.reserve(demand(1_000_000), 10.0)
        assert load.pressure(10.0 + 180) == load.pressure(10.0)

    def test_what_is_left_to_read_becomes_less(self) -> None:
        load = load_of(prefill_tokens=100_000, long_prefill_tokens=50_000)
        load.began(load.reserve(demand(10_000), 0.0), 10.0)
        first = load.reserve(demand(10_000), 20.0)
        assert load.work_left(24.0) == pytest.approx(0.6 * work_of(10_000))
        assert load.work_left(50.0) == 0
        load.free(first)
        assert load.work_left(50.0) == 0
