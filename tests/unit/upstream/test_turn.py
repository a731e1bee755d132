"""What a turn on a worker has cost it so far, and how long it still takes."""

import pytest

from app.settings import WorkerSettings
from app.upstream.endpoint import Endpoint
from app.upstream.load import Demand
from app.upstream.placement import Option
from app.upstream.reading import work_of
from app.upstream.turn import Turn


class Reading:
    """One worker, and prompts of so many tokens that it is given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worker = Endpoint(WorkerSettings.model_validate({"url": "http://10.0.0.1:8000"}))

    def turn(self, cold_tokens: int) -> Turn:
        demand = Demand(cold_tokens, cold_tokens)
        option = Option(self.worker, demand, 0, 0.0, False, "rendezvous")
        return Turn(option, lambda: self.now, lambda _: None)

    def reads_at(self, tokens_per_second: int, *, tokens: int = 10_000) -> None:
        """At the beginning of a prompt; shown by one of so many tokens."""
        turn = self.turn(tokens)
        self.now += work_of(tokens) / tokens_per_second
        turn.began()
        turn.close()


def test_where_the_speed_is_unknown_the_time_counts() -> None:
    reading = Reading()
    turn = reading.turn(50_000)
    assert turn.sunk_seconds == 0
    reading.now += 30
    assert turn.sunk_seconds == 30


def test_it_costs_no_more_than_reading_it_does() -> None:
    reading = Reading()
    reading.reads_at(1_000)
    turn = reading.turn(50_000)
    reading.now += 20
    assert turn.sunk_seconds == 20
    reading.now += 100
    whole = work_of(50_000) / 1_000
    assert turn.sunk_seconds == pytest.approx(whole)
    turn.began()
    assert whole <= turn.sunk_seconds <= 120  # the speed is another by now


def test_what_was_read_before_it_is_not_its_own_cost() -> None:
    reading = Reading()
    reading.reads_at(1_000)
    reading.turn(10_000)
    turn = reading.turn(50_000)
    before = work_of(10_000) / 1_000
    reading.now += before - 2
    assert turn.sunk_seconds == 0
    reading.now += 7
    assert turn.sunk_seconds == pytest.approx(5)


def test_a_short_prompt_that_was_read_has_cost_nothing() -> None:
    reading = Reading()
    turn = reading.turn(10)
    reading.now += 1
    turn.began()
    assert turn.sunk_seconds == 0


def test_what_was_seen_of_short_prompts_says_how_long_a_million_tokens_take() -> None:
    """On an H100, by calculation: 143 to 255 s. As fast as the short ones it would be 40 s."""
    reading = Reading()
    reading.reads_at(25_000, tokens=8_000)
    turn = reading.turn(1_000_000)
    assert turn.seconds_left is not None
    assert 143 < turn.seconds_left < 255


def test_the_end_of_a_long_prompt_takes_as_long_as_the_rest_of_it_leaves() -> None:
    reading = Reading()
    reading.reads_at(25_000)
    whole = reading.turn(1_000_000).seconds_left
    reading = Reading()
    reading.reads_at(25_000)
    beginning = reading.turn(800_000).seconds_left
    reading = Reading()
    reading.reads_at(25_000)
    rest = Option(reading.worker, Demand(200_000, 0, 800_000), 0, 0.0, False, "affinity")
    end = Turn(rest, lambda: reading.now, lambda _: None).seconds_left
    assert whole is not None
    assert beginning is not None
    assert end == pytest.approx(whole - beginning, rel=0.001)


def test_it_stands_behind_what_is_left_of_the_prompts_before_it() -> None:
    reading = Reading()
    reading.reads_at(1_000)
    reading.turn(10_000)
    reading.now += 4
    turn = reading.turn(10_000)
    assert turn.seconds_left == pytest.approx(2 * work_of(10_000) / 1_000 - 4)


def test_nobody_can_say_when_it_comes_once_it_should_have_been_there() -> None:
    reading = Reading()
    assert reading.turn(10_000).seconds_left is None
    reading = Reading()
    reading.reads_at(1_000)
    turn = reading.turn(10_000)
    reading.now += 11
    assert turn.seconds_left is None
    turn.began()
    assert turn.seconds_left == 0
