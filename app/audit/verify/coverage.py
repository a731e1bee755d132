"""Whether a chain is what was signed, witnessed and noted of it. Nothing here does I/O."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.audit.verify.evidence import Statement
from app.audit.verify.findings import Problem
from app.audit.verify.links import Settled

# Events that wait for a checkpoint: 400 bytes each. A gateway makes one every 1,000 or 10 s; at ten
# thousand a second these are some minutes of a spool that takes none.
MAX_WAITING_EVENTS = 1_000_000

# A problem, what is to be said of it, the number of the record and its request.
Tell = Callable[[Problem, str, int, str | None], None]


class Waiting(NamedTuple):
    """Of an event what its checkpoint is compared with, and what it is named by."""

    sequence: int
    hash: bytes
    kind: int
    at: int
    request_id: str | None


class Coverage:
    """`statements` are about this chain and by their sequences; what the chain's own checkpoints
    state comes by `state`. `covered` is up to where our keys have signed it."""

    def __init__(self, statements: Iterator[Statement], tell: Tell) -> None:
        self._statements = statements
        self._next = next(statements, None)
        self._tell = tell
        self._waiting: deque[Waiting] = deque()
        self._contradicted = False  # from there on all statements contradict the chain
        self._closing: Statement | None = None  # the last that says that the chain ends
        self._last = 0
        self.covered = 0
        self.damaged_at = 0  # the last event that was found to be changed, missing or inserted

    def feed(self, settled: Settled, request_id: str | None) -> None:
        """The next event of the chain."""
        event = settled.event
        self._waiting.append(
            Waiting(event.sequence, settled.hash, event.kind, event.at, request_id)
        )
        if len(self._waiting) > MAX_WAITING_EVENTS:
            self._waiting.popleft()
        self._last = sequence = event.sequence
        while self._next is not None and self._next.head.sequence <= sequence:
            if self._next.head.sequence == sequence:
                self.state(self._next)
                if self._next.closed and self._next.binding:
                    self._closing = self._next
            self._next = next(self._statements, None)

    def state(self, statement: Statement) -> None:
        """Of an event that was fed."""
        sequence = statement.head.sequence
        if self._contradicted:
            return
        if sequence == 0:
            return
        if sequence > self._last:
            self._contradict(statement)
            return
        found = self._find(sequence)
        if found is None:  # before the first one that we were given, or in a gap
            return
        if found.hash != statement.head.hash:
            self._contradict(statement)
        elif statement.signed:
            self._cover(sequence)

    def ahead(self) -> list[Statement]:
        """At the end of the chain: the first and the last binding statement of more than is
        there."""
        first: Statement | None = None
        last: Statement | None = None
        while (statement := self._next) is not None:
            if statement.binding:
                first, last = first or statement, statement
            self._next = next(self._statements, None)
        if first is None or last is None:
            closing = self._closing
            # What states the end stands behind it, as an event of its own.
            return [closing] if closing is not None and closing.head.sequence == self._last else []
        return [first] if first is last else [first, last]

    def not_covered(self) -> list[Waiting]:
        return [each for each in self._waiting if each.sequence > self.covered]

    def _find(self, sequence: int) -> Waiting | None:
        if not self._waiting:
            return None
        # Without gaps the place is known; with gaps it is at most so far behind.
        index = min(sequence - self._waiting[0].sequence, len(self._waiting) - 1)
        while index >= 0:
            found = self._waiting[index]
            if found.sequence <= sequence:
                return found if found.sequence == sequence else None
            index -= 1
        return None

    def _cover(self, sequence: int) -> None:
        """All but the last: another statement may be about that one."""
        self.covered = max(self.covered, sequence)
        while self._waiting[0].sequence < sequence:
            self._waiting.popleft()

    def _contradict(self, statement: Statement) -> None:
        self._contradicted = True
        sequence = statement.head.sequence
        if self.damaged_at > self.covered:
            return  # that is why
        suspects = (each for each in self.not_covered() if each.sequence <= sequence)
        first = next(suspects, None)
        number = sequence if first is None else first.sequence
        what = f"{statement.source} states another hash for event {sequence}"
        if sequence > self._last:
            what = f"{statement.source} states event {sequence}, which is behind it"
        if number != sequence:
            what += (
                f": of the events from {number} on at least one was changed, inserted or deleted, "
                "and the hashes were made anew"
            )
        self._tell(Problem.REWRITTEN, what, number, None if first is None else first.request_id)
