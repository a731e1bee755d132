"""A request's turn on a worker, and its waiting for it."""

from collections.abc import Callable
from typing import NamedTuple

from app.upstream.endpoint import Endpoint
from app.upstream.load import Demand, Reservation
from app.upstream.placement import Option


class Turn:
    """A place on a worker: its prompt is taken to be read until `began`, and the rest is held until
    `close`. Either may be called again. What belongs to a generation of the worker that is gone
    frees nothing."""

    __slots__ = (
        "_changed", "_clock", "_reservation", "endpoint", "expected_cached_tokens", "is_trial",
    )  # fmt: skip

    def __init__(
        self, option: Option, clock: Callable[[], float], changed: Callable[["Turn"], None]
    ) -> None:
        """`changed` is called whenever this has made room."""
        endpoint = option.endpoint
        self.endpoint: Endpoint = endpoint
        self.expected_cached_tokens = option.saved_tokens
        self._clock = clock
        self._changed = changed
        self._reservation: Reservation = endpoint.load.reserve(option.demand, clock())
        endpoint.in_flight += 1
        self.is_trial = endpoint.ejected_until is not None
        if self.is_trial:
            endpoint.on_trial = True

    @property
    def demand(self) -> Demand:
        return self._reservation.demand

    @property
    def is_open(self) -> bool:
        return self._reservation.held

    @property
    def is_reading(self) -> bool:
        return self._reservation.reading

    @property
    def generation(self) -> int:
        """The worker's, when it was given."""
        return self._reservation.generation

    def began(self) -> None:
        """Its first token is there: the prompt has been read."""
        if self._reservation.reading:
            self.endpoint.load.began(self._reservation, self._clock())
            self._changed(self)

    def close(self) -> None:
        if self._reservation.held:
            self.endpoint.load.free(self._reservation)
            self.endpoint.in_flight -= 1
            if self.is_trial:
                self.endpoint.on_trial = False
            self._changed(self)

    @property
    def seconds_left(self) -> float | None:
        """Until its first token, if the worker reads as fast as it did; None where nobody can say,
        as it was not seen to read, or should have been done by now."""
        reservation = self._reservation
        if not reservation.reading:
            return 0.0
        seconds = self.endpoint.load.seconds_of(reservation.ahead_work + reservation.work)
        if seconds is None:
            return None
        left = seconds - (self._clock() - reservation.at)
        return left if left > 0 else None

    @property
    def sunk_seconds(self) -> float:
        """What the worker has spent on this prompt so far, as far as can be told."""
        reservation = self._reservation
        load = self.endpoint.load
        whole = load.seconds_of(reservation.work)
        if not reservation.reading:
            return whole or 0.0  # unknown: no long prompt was read there, so this was none
        seconds = self._clock() - reservation.at
        before = load.seconds_of(reservation.ahead_work)
        if before is None or whole is None:
            return seconds
        return min(max(0.0, seconds - before), whole)


class Position(NamedTuple):
    place: int  # 1: the next of its line
    seconds_left: float | None


class Waiting:
    """How it stands with a request that has no token yet, from its coming to its first one."""

    __slots__ = ("estimated_prompt_tokens", "in_line", "turn")

    def __init__(self, estimated_prompt_tokens: int) -> None:
        self.estimated_prompt_tokens = estimated_prompt_tokens
        self.in_line: Callable[[], Position] | None = None  # while it is in the queue
        self.turn: Turn | None = None  # once it has a worker

    @property
    def place(self) -> int:
        """In its line of this process's queue; 0 where it is in none."""
        return 0 if self.in_line is None else self.in_line().place

    @property
    def seconds_left(self) -> float | None:
        """Until its first token; None where nobody can say."""
        if self.in_line is not None:
            return self.in_line().seconds_left
        return None if self.turn is None else self.turn.seconds_left
