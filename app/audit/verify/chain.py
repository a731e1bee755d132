"""One chain, from its first event that is there to its last. Nothing here does I/O."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.audit.chain import MAX_SEQUENCE
from app.audit.checkpoints.checkpoint import Checkpoint, CheckpointUnreadable, parse_checkpoint
from app.audit.projection import columns_of
from app.audit.spool.frames import FrameKind
from app.audit.verify.coverage import Coverage
from app.audit.verify.evidence import Reference, Statement, StoredEvent
from app.audit.verify.findings import Finding, OpenChain, Problem, Report
from app.audit.verify.links import Links, Settled
from app.audit.verify.references import references_of, values_of

# For so long may events wait for their checkpoint: it comes within seconds of them, unless the host
# was lost with its spool.
MAX_UNCOVERED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Noted:
    """An event RETENTION or ERASURE, to be believed once our keys have signed it."""

    event: StoredEvent
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """What the rest of the log has to say of a chain that was read. `first` is the first event
    that was there."""

    writer: str
    first: StoredEvent | None
    last: int
    last_at: int  # in microseconds since the epoch
    covered: int
    closed: bool
    ahead: list[Statement]
    noted: list[Noted]


class ChainVerifier:
    """Fed with the events of one writer in order. `references` are the messages that they refer
    to, and are the caller's to take and to look for; `register` is what its checkpoints say of the
    register."""

    def __init__(
        self,
        writer: str,
        keys: Collection[str],
        statements: Iterator[Statement],
        report: Report,
        *,
        published: int = MAX_SEQUENCE,
    ) -> None:
        """`published`: up to that event the second place has checkpoints."""
        self.writer = writer
        self.references: list[Reference] = []
        self.register: dict[int, bytes] = {}
        self.unpublished: Checkpoint | None = None  # the first that the second place lacks
        self._keys = keys
        self._report = report
        self._published = published
        self._links = Links(self._tell_link)
        self._coverage = Coverage(statements, self._add)
        self._first: StoredEvent | None = None
        self._last = self._last_at = 0
        self._open: dict[str | None, int] = {}  # the requests without an outcome, and their events
        self._noted: list[Noted] = []
        self._closes = False  # the last event is a closing checkpoint
        self._closed = False  # and it covers all before it
        self._ended_at: int | None = None  # the first closing checkpoint

    def feed(self, event: StoredEvent) -> None:
        self._report.events += 1
        if event.sequence < 1:
            self._tell(Problem.INSERTED, "a chain begins with number 1", event.sequence, event)
            return
        if self._first is None:
            self._first = event
        settled = self._links.feed(event)
        if settled is not None:
            self._take(settled)

    def end(self, now: float) -> Ended:
        """`now` in wall-clock seconds since the epoch."""
        settled = self._links.end()
        if settled is not None:
            self._take(settled)
        self._report.chains += 1
        if self._closed:
            if self._coverage.damaged_at:  # some of their ends may be what is missing
                self._open.clear()
            for request_id, sequence in self._open.items():
                what = "its request never ended, and its chain is closed"
                self._add(Problem.NO_OUTCOME, what, sequence, request_id)
        else:
            self._tell_end(now)
        return Ended(
            self.writer,
            self._first,
            self._last,
            self._last_at,
            self._coverage.covered,
            self._closed,
            self._coverage.ahead(),
            self._noted,
        )

    # -- event by event

    def _take(self, settled: Settled) -> None:
        event = settled.event
        columns = None if event.payload is None else columns_of(event.kind, event.payload)
        self._coverage.feed(settled, _request_id(event, columns))
        self._last, self._last_at = event.sequence, event.at
        self._closes = self._closed = False
        if event.sequence == 1 and event.kind != FrameKind.REGISTRATION:
            self._tell(Problem.CHANGED, "a chain begins with its registration", 1, event)
        if event.payload is None or columns is None:
            return
        if settled.fits and event.columns is not None:
            self._compare(event, columns)
        if event.kind == FrameKind.INTENT:
            self._open[columns["request_id"]] = event.sequence
        elif event.kind == FrameKind.OUTCOME:
            self._take_outcome(event, columns)
        elif event.kind == FrameKind.CHECKPOINT:
            self._take_checkpoint(event)
        elif event.kind in (FrameKind.ERASURE, FrameKind.RETENTION):
            self._noted.append(Noted(event, values_of(event.payload)))

    def _compare(self, event: StoredEvent, columns: Mapping[str, Any]) -> None:
        stored = event.columns or {}
        changed = [name for name, value in columns.items() if stored.get(name) != value]
        if changed:
            what = f"its payload says otherwise than {', '.join(changed)}"
            self._tell(Problem.COLUMN_CHANGED, what, event.sequence, event)

    def _take_outcome(self, event: StoredEvent, columns: Mapping[str, Any]) -> None:
        begun = self._open.pop(columns["request_id"], None)
        if begun is None and self._is_whole:
            what = "its request has ended before, or never began"
            self._tell(Problem.SECOND_OUTCOME, what, event.sequence, event)
        self.references += references_of(event, columns)

    def _take_checkpoint(self, event: StoredEvent) -> None:
        assert event.payload is not None  # noqa: S101 - the caller has seen to it
        try:
            checkpoint = parse_checkpoint(event.payload)
        except CheckpointUnreadable as error:
            self._tell(Problem.FORGED, f"a checkpoint that is none: {error}", event.sequence, event)
            return
        fault = fault_of(checkpoint, self._keys)
        if fault is None and checkpoint.writer != self.writer:
            fault = f"a checkpoint of the chain {checkpoint.writer}"
        if fault is not None:
            self._tell(Problem.FORGED, fault, event.sequence, event)
            return
        self._report.checkpoints += 1
        source = f"the checkpoint at event {event.sequence}"
        self._coverage.state(Statement(checkpoint.head, source, signed=True))
        if checkpoint.register is not None:
            self.register[checkpoint.register[0]] = checkpoint.register[1]
        if self.unpublished is None and checkpoint.sequence > self._published:
            self.unpublished = checkpoint
        self._closes = checkpoint.closed
        if checkpoint.closed and checkpoint.sequence == event.sequence - 1:
            self._closed = True
            self._ended_at = self._ended_at or event.sequence

    @property
    def _is_whole(self) -> bool:
        """So far."""
        begins = self._first is not None and self._first.sequence == 1
        return begins and not self._coverage.damaged_at

    # -- at the end

    def _tell_end(self, now: float) -> None:
        left = self._coverage.not_covered()
        if not left:
            return
        first = left[0]
        if self._ended_at is not None:
            first = next(each for each in left if each.sequence > self._ended_at)
            what = (
                f"it follows the closing checkpoint at event {self._ended_at}, and no later one "
                "covers it (so does what a recovery adds, for a moment: verify again)"
            )
            self._add(Problem.AFTER_THE_END, what, first.sequence, first.request_id)
            return
        # A checkpoint is signed itself; and a process closes its chain when it records no more.
        old = [
            each
            for each in left
            if each.kind != FrameKind.CHECKPOINT
            and (self._closes or now - each.at / 1e6 > MAX_UNCOVERED_SECONDS)
        ]
        if old:
            what = (
                f"no checkpoint covers it and what follows, up to event {self._last}: inserted, or "
                "its host was lost before it could sign"
            )
            self._add(Problem.UNPROVEN, what, old[0].sequence, old[0].request_id)
        else:
            self._report.not_covered.append(OpenChain(self.writer, first.sequence, len(left)))

    # -- telling

    def _tell_link(
        self, problem: Problem, what: str, sequence: int, event: StoredEvent | None
    ) -> None:
        self._coverage.damaged_at = sequence
        self._tell(problem, what, sequence, event)

    def _tell(self, problem: Problem, what: str, sequence: int, event: StoredEvent | None) -> None:
        columns = None
        if event is not None and event.payload is not None:
            columns = columns_of(event.kind, event.payload)
        self._add(problem, what, sequence, None if event is None else _request_id(event, columns))

    def _add(self, problem: Problem, what: str, sequence: int, request_id: str | None) -> None:
        self._report.findings.add(Finding(problem, what, self.writer, sequence, request_id))


def fault_of(checkpoint: Checkpoint, keys: Collection[str]) -> str | None:
    """Why a checkpoint is not to be believed; None where one of our keys has signed it."""
    if checkpoint.key not in keys:
        return f"a checkpoint by the key {checkpoint.key}, which is not ours"
    if not checkpoint.is_signed():
        return "a checkpoint that its key has not signed"
    return None


def _request_id(event: StoredEvent, columns: Mapping[str, Any] | None) -> str | None:
    """As its payload says, whose `columns` these are, or else its column."""
    request_id = None if columns is None else columns["request_id"]
    if request_id is None and event.columns is not None:
        request_id = event.columns.get("request_id")
    return None if request_id is None else str(request_id)
