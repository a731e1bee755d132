"""Requests that are being answered, so that the same one coming again need not be asked again.

A run is kept from the reading of its request to its end: what was shown of its answer, in a bounded
replay, and who reads along. Only its own process knows it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple, Protocol

from app.errors import GatewayError, Unavailable
from app.gateway.asked import Origin
from app.protocol.events import Usage, Visible
from app.protocol.replay import Replay
from app.telemetry.spans import Link
from app.upstream.turn import Waiting

# One client has one connection that counts; the others are those that it has given up, and that we
# have not yet seen go.
MAX_FOLLOWERS = 8
TAKEN_IN_BATCHES = 16  # into a replay, at a time, and its size looked at: some 3 KB


class About(NamedTuple):
    """What the headers of an answer tell of its request."""

    adjusted: Mapping[str, float]
    domains: Sequence[str]


class Keeper(Protocol):
    """Decides how long a run goes on whose own client is gone."""

    def joined(self) -> None:
        """Somebody reads along again."""

    def abandoned(self) -> None:
        """Nobody reads along any more."""

    def lost(self) -> None:
        """Nobody reads along, and the replay has become too long for who might come."""

    def outlives_a_follower(self) -> bool:
        """Whether it goes on if one of those that read along leaves."""

    def ended(self) -> None:
        """Nothing runs any more."""


class Run:
    """`publish` and `complete` by whoever answers it, then `end`, once it is on record."""

    def __init__(
        self, running: "Running", origin: Origin, waiting: Callable[[], Waiting | None]
    ) -> None:
        self.origin = origin
        self.waiting = waiting
        self.trace_link: Link | None = None  # to the span of its request, if that leaves one
        self.keeper: Keeper | None = None
        self.client_gone = False
        self.open = True  # to those that come
        self.about: About | None = None  # once it has been admitted
        self.usage = Usage()
        self.finishes: Mapping[int, str] = {}
        self.whole = False  # the answer has come to its own end
        self.ended = False
        self.error: GatewayError | None = None
        self.taken = False  # somebody that came later has had all of it
        self._running = running
        self._replay: Replay | None = Replay()
        self._latest: list[Sequence[Visible]] = []  # that are not in it yet
        self._held_bytes = 0  # as it was last measured
        self._followers: set[asyncio.Event] = set()

    @property
    def followers(self) -> int:
        return len(self._followers)

    # -- by whoever answers it

    def client_left(self) -> None:
        self.client_gone = True
        self._running.left(self)

    def admitted(self, about: About) -> None:
        self.about = about
        self._wake()

    def publish(self, events: Sequence[Visible]) -> None:
        if self._replay is None or not events:
            return
        self._latest.append(events)
        if self._followers or len(self._latest) >= TAKEN_IN_BATCHES:
            self._take_in()
            self._wake()

    def complete(self, usage: Usage, finishes: Mapping[int, str]) -> None:
        """The answer is whole. Its followers see the end when it is on record, too."""
        self.usage, self.finishes, self.whole = usage, finishes, True

    def end(self, error: GatewayError | None) -> None:
        """`error`: why those that read along get no end of it. Raises nothing."""
        if self.client_gone:
            self._take_in()  # what is kept from now on counts
        if error is None and not self.whole:
            error = Unavailable("The answer was given up. Please try again.")
        self.ended, self.error = True, error
        self.waiting = _nobody  # whoever comes for its answer holds nothing else of it
        if self.keeper is not None:
            self.keeper.ended()
        if self.client_gone and self.open and error is None:
            self.origin.asked.forget_text()
        else:
            self.forget()
        self._wake()

    def close(self) -> None:
        """Nobody new may read along."""
        self.open = False

    def forget(self) -> None:
        """Those that read along read on."""
        self.close()
        self._running.forget(self)
        if not self._followers:
            self._drop_replay()

    # -- by those that read along

    def outlives_a_follower(self) -> bool:
        """Whether it goes on if one of those that read along leaves."""
        return self.keeper is None or self.keeper.outlives_a_follower()

    @contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """While it is open, the run goes on for its sake. The event is set whenever there is news,
        and cleared by whoever waits for it."""
        news = asyncio.Event()
        self._followers.add(news)
        if self.keeper is not None:
            self.keeper.joined()
        try:
            yield news
        finally:
            self._followers.discard(news)
            if not self._followers:
                self._left_alone()

    def since(self, position: int) -> Sequence[Visible]:
        """What was shown after the first `position` events."""
        if self._latest:
            self._take_in()
        return () if self._replay is None else self._replay.since(position)

    # -- the replay

    def _left_alone(self) -> None:
        if not self.open:
            self._drop_replay()
        if self.client_gone and self.keeper is not None:
            self.keeper.abandoned()

    def _take_in(self) -> None:
        replay = self._replay
        if replay is None:
            return
        replay.add(list(chain.from_iterable(self._latest)), join=not self._followers)
        self._latest.clear()
        self._running.grow(replay.size_bytes - self._held_bytes)
        self._held_bytes = replay.size_bytes
        if self._running.too_long(replay):
            self._overflow()

    def _overflow(self) -> None:
        """What is being read along is kept: it is no longer than the answer."""
        self.close()
        if self._followers:
            return
        self._drop_replay()
        if self.client_gone and self.keeper is not None:
            self.keeper.lost()

    def _drop_replay(self) -> None:
        if self._replay is not None:
            self._running.grow(-self._held_bytes)
            self._replay = None
            self._latest.clear()

    def _wake(self) -> None:
        for news in self._followers:
            news.set()


def _nobody() -> None:
    return None


class Running:
    """The runs of this process, by key. No replay grows beyond `run_bytes`, nor all of them
    together beyond `total_bytes`, but for those that somebody reads along."""

    def __init__(self, *, run_bytes: int, total_bytes: int) -> None:
        self._run_bytes = run_bytes
        self._total_bytes = total_bytes
        self._held_bytes = 0
        self._runs: dict[str, dict[Run, None]] = {}
        self._left: dict[str, dict[Run, None]] = {}  # of them, those whose client is gone

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def __len__(self) -> int:
        return sum(map(len, self._runs.values()))

    def __iter__(self) -> Iterator[Run]:
        return (run for runs in self._runs.values() for run in runs)

    def of_key(self, key_id: str) -> Iterator[Run]:
        """The newest first."""
        return reversed(self._runs.get(key_id, {}))

    def left_of_key(self, key_id: str) -> Iterator[Run]:
        """Those whose client is gone."""
        return reversed(self._left.get(key_id, {}))

    def begin(self, origin: Origin, waiting: Callable[[], Waiting | None]) -> Run:
        run = Run(self, origin, waiting)
        self._runs.setdefault(origin.key_id, {})[run] = None
        return run

    def left(self, run: Run) -> None:
        self._left.setdefault(run.origin.key_id, {})[run] = None

    def forget(self, run: Run) -> None:
        key_id = run.origin.key_id
        for runs in (self._runs, self._left):
            of_key = runs.get(key_id)
            if of_key is not None:
                of_key.pop(run, None)
                if not of_key:
                    del runs[key_id]

    def grow(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes

    def too_long(self, replay: Replay) -> bool:
        return replay.size_bytes > self._run_bytes or self._held_bytes > self._total_bytes
