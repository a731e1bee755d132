"""What of one spool is not in the database: the records to ship next, and how many wait."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog

from app.audit.chain import GENESIS
from app.audit.spool.cursor import START, Committed, Found, SpoolCursor
from app.audit.spool.disk import Disk
from app.audit.spool.frames import FrameKind
from app.audit.spool.segment_start import follow
from app.audit.spool.segments import Position, list_segments, segment_path
from app.audit.spool.spooled_record import NOT_SHIPPED, SpooledRecord, spooled_record

MAX_BATCH_RECORDS = 1000  # some 1 MB of JSON
MAX_BATCH_BYTES = 4 * 1024 * 1024  # with the longest findings, 60 records; a message may be longer

# Read for the figures at a time, in a thread: a long backlog is counted in some steps.
MAX_COUNT_READS = 64

_SECOND = 1e6  # in microseconds

# No request lasts so long. Without it, an intent whose end could not be recorded would keep its
# segment, and all after it, until the process ends.
MAX_OPEN_SECONDS = 6 * 3600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _OpenIntent:
    segment: int
    read_at: float  # by the monotonic clock: a date that jumps must not end what runs


class Backlog:
    """Of one directory. `fill`, `count` and `remove_shipped` block and are called in a thread, one
    at a time; what a cancelled caller did not wait for is not lost."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        committed: Committed,
        shipped: Position = START,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._writer = directory.name
        self._disk = disk
        self._committed = committed
        self._shipped = shipped
        self._clock = clock
        self._cursor = SpoolCursor(directory, disk, committed)
        self._chain = GENESIS  # of what the cursor has passed, as it says
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
                waiting = [each for each in found if each.kind not in NOT_SHIPPED]
                self._counted += len(waiting)
                self._counted_bytes += sum(each.end.offset - each.start.offset for each in waiting)

    def remove_shipped(self) -> None:
        """Removes the segments that are shipped whole and that a recovery has no need of: from the
        one with the oldest intent that has no outcome yet, all are kept. Raises OSError."""
        with self._lock:
            needed = min(self._first_unshipped_segment(), self._first_open_segment())
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
        waiting = sum(each.size_bytes for each in self._records)
        return waiting + max(0, self._counted_bytes - self._read_bytes)

    @property
    def open_intents(self) -> int:
        """Whose outcomes have not been read."""
        return len(self._open)

    @property
    def oldest(self) -> float | None:
        """When the first record that waits was recorded, in wall-clock seconds since the epoch, as
        far as it is at hand."""
        times = (each.found.at / _SECOND for each in self._records if each.found.at)
        return next(times, None)

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
        before = self._chain
        self._chain = follow(before, found.kind, found.at, found.payload)
        if found.kind in NOT_SHIPPED:
            return
        record = spooled_record(self._writer, before, self._chain, found)
        self._read += 1
        self._read_bytes += record.size_bytes
        if record.request_id is not None:
            self._follow_request(record.request_id, record)
        if found.end > self._shipped:
            self._records.append(record)

    def _follow_request(self, request_id: str, record: SpooledRecord) -> None:
        found = record.found
        if found.kind == FrameKind.INTENT:
            self._open.setdefault(request_id, _OpenIntent(found.start.segment, self._clock()))
        elif found.kind == FrameKind.OUTCOME:
            self._open.pop(request_id, None)

    def _first_unshipped_segment(self) -> int:
        if self._records:
            return self._records[0].found.start.segment
        return self._cursor.position.segment

    def _first_open_segment(self) -> int:
        while self._open:
            request_id, intent = next(iter(self._open.items()))
            if intent.read_at > self._clock() - MAX_OPEN_SECONDS:
                return intent.segment
            log.warning("audit_intent_without_outcome", request_id=request_id)
            del self._open[request_id]
        return self._committed.committed.segment
