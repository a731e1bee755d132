"""Whether a worker's tokens stand still."""

from app.upstream.own_stall import OwnStall
from app.upstream.standstill import StandStill


def test_tokens_are_movement() -> None:
    still = StandStill()
    still.moved(100.0)
    assert not still.still(60, 159.0)
    assert still.still(60, 160.0)


def test_counters_that_grow_are_movement_and_counters_that_stand_are_none() -> None:
    still = StandStill()
    still.moved(100.0)
    still.counted((10, 20, 0.5), 150.0)  # the first time nobody knows since when it stands so
    assert still.moved_at == 100.0
    still.counted((10, 21, 0.5), 155.0)
    assert still.moved_at == 155.0
    still.counted((10, 21, 0.5), 400.0)
    assert still.still(60, 400.0)


def test_a_prompt_that_is_being_read_shows_in_the_cache_alone() -> None:
    still = StandStill()
    still.counted((0, 0, 0.25), 100.0)
    still.counted((0, 0, 0.26), 105.0)
    assert still.moved_at == 105.0


def test_a_worker_that_no_longer_says_does_not_move_by_that() -> None:
    still = StandStill()
    still.counted((10, 20), 100.0)
    still.counted((10, 21), 105.0)
    still.counted((None, None), 500.0)
    assert still.moved_at == 105.0
    still.counted((10, 21), 505.0)
    assert still.moved_at == 105.0


def test_a_loop_that_ticks_is_not_held_up() -> None:
    own = OwnStall()
    assert not own.lately(5.0)  # nobody ticks yet
    for tenth in range(0, 100, 2):
        own.tick(tenth / 10)
        assert not own.lately(tenth / 10 + 0.2)


def test_a_loop_that_was_held_up_judges_nobody_until_it_has_caught_up() -> None:
    own = OwnStall()
    own.tick(10.0)
    assert own.lately(11.5)  # also before its own tick is late
    own.tick(13.0)
    assert own.lately(14.9)
    own.tick(14.0)
    own.tick(15.0)
    assert not own.lately(15.1)
