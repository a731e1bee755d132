"""The end of a process, without losing a stream: nothing new, the running ones finish, then go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

End = Callable[[], None]


class Drain:
    """Knows the running requests, and how to end each. No task, no clock: the server has those."""

    def __init__(self) -> None:
        self.announced = False
        self.draining = False
        self._running: dict[object, End] = {}

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def announce(self) -> None:
        """Whoever asks is told to send requests elsewhere; those that still come are served."""
        self.announced = True

    def begin(self) -> None:
        """From now on nothing new is taken."""
        self.announced = self.draining = True

    @contextmanager
    def running(self, end: End) -> Iterator[None]:
        """Around a request; `end()` makes it end soon, with an error that says why."""
        token = object()
        self._running[token] = end
        try:
            yield
        finally:
            del self._running[token]

    def expire(self) -> None:
        """The time is over: ends whatever still runs."""
        for end in list(self._running.values()):
            end()
