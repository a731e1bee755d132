"""What a turn on a worker has cost it so far."""

from app.settings import WorkerSettings
from app.upstream.endpoint import Endpoint
from app.upstream.load import Demand
from app.upstream.placement import Option
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

    def reads_at(self, tokens_per_second: int) -> None:
        turn = self.turn(10_000)
        self.now += 10_000 / tokens_per_second
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
    assert turn.sunk_seconds == 50
    turn.began()
    assert 50 <= turn.sunk_seconds <= 120  # the speed is another by now


def test_what_was_read_before_it_is_not_its_own_cost() -> None:
    reading = Reading()
    reading.reads_at(1_000)
    reading.turn(10_000)
    turn = reading.turn(50_000)
    reading.now += 8
    assert turn.sunk_seconds == 0
    reading.now += 7
    assert turn.sunk_seconds == 5


def test_a_short_prompt_that_was_read_has_cost_nothing() -> None:
    reading = Reading()
    turn = reading.turn(10)
    reading.now += 1
    turn.began()
    assert turn.sunk_seconds == 0
