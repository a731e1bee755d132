"""What of one spool is not in the database: the records to ship next, and how many wait."""

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog

from app.audit.records import AuditIntent, AuditOutcome
from app.audit.spool.cursor import START, Committed, Found, SpoolCursor
from app.audit.spool.disk import Disk
from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import PayloadUnreadable, decode_intent, decode_outcome
from app.audit.spool.segments import Position, list_segments, segment_path

MAX_BATCH_RECORDS = 1000  # some 1 MB of JSON
MAX_BATCH_BYTES = 4 * 1024 * 1024  # with the longest findings, 60 records

# Read for the figures at a time, in a thread: a long backlog is counted in some steps.
MAX_COUNT_READS = 64

# No request lasts so long. Without it, an intent whose end could not be recorded would keep its
# segment, and all after it, until the process ends.
MAX_OPEN_SECONDS = 6 * 3600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """`record` is None where `found` cannot be read, and `problem` says why."""

    found: Found
    record: AuditIntent | AuditOutcome | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _OpenIntent:
    segment: int
    received_at: float


class Backlog:
    """Of one directory. `fill`, `count` and `remove_shipped` block and are called in a thread, one
    at a time; what a cancelled caller did not wait for is not lost."""

    def __init__(
        self, directory: Path, disk: Disk, committed: Committed, shipped: Position = START
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._committed = committed
        self._shipped = shipped
        self._cursor = SpoolCursor(directory, disk, committed)
        self._records: deque[SpooledRecord] = deque()
        self._read = 0  # records that the cursor has passed, shipped ones too
        self._read_bytes = 0
        self._open: dict[str, _OpenIntent] = {}  # as they were read, so by segment
        self._counting = SpoolCursor(directory, disk, committed)
        self._counted = 0
        self._counted_bytes = 0
        self._lock = threading.Lock()

    # -- in a thread

    def fill(self) -> None:
        """Reads on until there is a batch, or nothing more. Raises OSError."""
        with self._lock:
            size = sum(len(each.found.payload) for each in self._records)
            while len(self._records) < MAX_BATCH_RECORDS and size < MAX_BATCH_BYTES:
                found = self._cursor.read()
                if not found:
                    return
                for each in found:
                    self._take(each)
                    size += len(each.payload)

    def count(self) -> None:
        """Brings `records` and `in_bytes` nearer to what is committed. Raises OSError."""
        with self._lock:
            if self._counted < self._read:
                self._counting = SpoolCursor(
                    self._directory, self._disk, self._committed, self._cursor.position
                )
                self._counted, self._counted_bytes = self._read, self._read_bytes
            for _ in range(MAX_COUNT_READS):
                found = self._counting.read()
                if not found:
                    return
                self._counted += len(found)
                self._counted_bytes += sum(each.end.offset - each.start.offset for each in found)

    def remove_shipped(self, now: float) -> None:
        """Removes the segments that are shipped whole and that a recovery has no need of: from the
        one with the oldest intent that has no outcome yet, all are kept. Raises OSError.

        `now`: wall-clock seconds since the epoch.
        """
        with self._lock:
            needed = min(self._first_unshipped_segment(), self._first_open_segment(now))
            for number in list_segments(self._disk, self._directory):
                if number >= needed:
                    return
                self._disk.remove(segment_path(self._directory, number))

    # -- on the loop

    @property
    def records(self) -> int:
        """That wait, as far as they have been counted."""
        return len(self._records) + max(0, self._counted - self._read)

    @property
    def in_bytes(self) -> int:
        waiting = sum(each.found.end.offset - each.found.start.offset for each in self._records)
        return waiting + max(0, self._counted_bytes - self._read_bytes)

    @property
    def open_intents(self) -> int:
        """Whose outcomes have not been read."""
        return len(self._open)

    @property
    def oldest(self) -> float | None:
        """When the first request that waits was received, in wall-clock seconds since the epoch, as
        far as its intent is among the records at hand."""
        intents = (each.record for each in self._records if isinstance(each.record, AuditIntent))
        return next((intent.received_at for intent in intents), None)

    def first(self, records: int) -> list[SpooledRecord]:
        """So many, or fewer where they are long or are all."""
        batch: list[SpooledRecord] = []
        size = 0
        for each in islice(self._records, records):
            size += len(each.found.payload)
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(each)
        return batch

    def shipped_up_to(self, position: Position) -> int:
        """Everything before is in the database, or set aside. How many records less that are."""
        self._shipped = position
        before = len(self._records)
        while self._records and self._records[0].found.end <= position:
            self._records.popleft()
        return before - len(self._records)

    def _take(self, found: Found) -> None:
        self._read += 1
        self._read_bytes += found.end.offset - found.start.offset
        spooled = _decoded(found)
        record = spooled.record
        if isinstance(record, AuditIntent):
            intent = _OpenIntent(found.start.segment, record.received_at)
            self._open.setdefault(record.request_id, intent)
        elif record is not None:
            self._open.pop(record.request_id, None)
        if found.end > self._shipped:
            self._records.append(spooled)

    def _first_unshipped_segment(self) -> int:
        if self._records:
            return self._records[0].found.start.segment
        return self._cursor.position.segment

    def _first_open_segment(self, now: float) -> int:
        while self._open:
            request_id, intent = next(iter(self._open.items()))
            if intent.received_at > now - MAX_OPEN_SECONDS:
                return intent.segment
            log.warning("audit_intent_without_outcome", request_id=request_id)
            del self._open[request_id]
        return self._committed.committed.segment


def _decoded(found: Found) -> SpooledRecord:
    try:
        if found.kind == FrameKind.INTENT:
            intent = decode_intent(found.payload)
            if type(intent.received_at) not in (float, int):  # we reckon with it
                return SpooledRecord(found, None, "received_at is no number")
            return SpooledRecord(found, intent)
        if found.kind == FrameKind.OUTCOME:
            return SpooledRecord(found, decode_outcome(found.payload))
    except PayloadUnreadable as error:
        return SpooledRecord(found, None, str(error))
    if found.kind is None:
        return SpooledRecord(found, None, "no frame: never acknowledged, or damaged")
    return SpooledRecord(found, None, f"a frame of kind {found.kind}, of a newer version")
