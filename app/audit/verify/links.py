"""Whether each event of a chain follows from the one before it. Nothing here does I/O."""

from collections.abc import Callable
from typing import NamedTuple

from app.audit.chain import GENESIS, ChainHead
from app.audit.verify.evidence import StoredEvent
from app.audit.verify.findings import Problem

# A problem, what is to be said of it, the number of the record, and that record where it is there.
Tell = Callable[[Problem, str, int, StoredEvent | None], None]


class Settled(NamedTuple):
    """`hash` is the one that its successor goes on from, `fits` whether it is the event's own."""

    event: StoredEvent
    hash: bytes
    fits: bool


class Links:
    """Fed in order, it gives each event back once the next one has shown what became of it: where
    an event does not fit its hash, the successor tells which of the two was changed.

    A first event that is not the chain's first is taken at its word, and so is one behind a gap:
    what was signed for them later tells.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._before: ChainHead | None = GENESIS  # of `_last`; None where it is not known
        self._last: StoredEvent | None = None
        self._computed: ChainHead | None = None  # what `_last` makes of `_before`

    def feed(self, event: StoredEvent) -> Settled | None:
        last = self._last
        if last is None:
            self._before = GENESIS if event.sequence == 1 else None
        elif event.sequence == last.sequence:
            self._twice(last, event)
            return None
        settled = self._settle(event)
        if settled is not None:
            self._before = ChainHead(settled.event.sequence, settled.hash)
            if event.sequence > settled.event.sequence + 1:
                self._missing(settled.event.sequence + 1, event.sequence - 1)
                self._before = None
        self._take(event)
        return settled

    def end(self) -> Settled | None:
        """The last one."""
        settled = self._settle(None)
        self._last = None
        return settled

    def _take(self, event: StoredEvent) -> None:
        self._last = event
        self._computed = None if self._before is None else event.behind(self._before)

    def _settle(self, following: StoredEvent | None) -> Settled | None:
        last, computed = self._last, self._computed
        if last is None:
            return None
        if computed is None or computed.hash == last.hash:
            return Settled(last, last.hash, fits=True)
        if following is not None and following.behind(computed) == following.head:
            self._tell(
                Problem.HASH_CHANGED, "its hash was changed; its content fits", last.sequence, last
            )
            return Settled(last, computed.hash, fits=True)
        self._tell(
            Problem.CHANGED,
            "it does not fit its hash: its content or its time was changed, or both the content "
            "and the hash of the one before it",
            last.sequence,
            last,
        )
        return Settled(last, last.hash, fits=False)

    def _twice(self, last: StoredEvent, event: StoredEvent) -> None:
        """The one that fits is kept."""
        bad = event
        if self._before is not None and self._computed is not None:
            other = event.behind(self._before)
            if self._computed.hash != last.hash and other.hash == event.hash:
                bad, self._last, self._computed = last, event, other
        self._tell(
            Problem.INSERTED,
            "there are two records of this number; this one was inserted",
            bad.sequence,
            bad,
        )

    def _missing(self, first: int, last: int) -> None:
        what = "it is missing" if first == last else f"it and all up to {last} are missing"
        self._tell(Problem.MISSING, what, first, None)
