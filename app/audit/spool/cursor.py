"""Reading the frames of a spool in order, segment after segment."""

from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from app.audit.spool.disk import Disk
from app.audit.spool.frames import HEADER, FrameKind, FrameReader
from app.audit.spool.payloads import PayloadUnreadable
from app.audit.spool.segment_start import decode_segment_start, read_segment_start
from app.audit.spool.segments import START_BYTES, Position, list_segments, segment_path

READ_BYTES = 256 * 1024  # some 300 records: a thread that takes them apart delays nobody by much

START = Position(0, 0)

log = structlog.get_logger()


class Committed(Protocol):
    """How far a spool may be read. A SpoolWriter is one."""

    @property
    def committed(self) -> Position:
        """The end of what is durable. Segments before that one are closed."""

    def durable_end(self, number: int) -> int | None:
        """Of one segment, in bytes. None: as far as its frames go, since nobody writes it."""


class WriterGone:
    """Implements Committed for a spool that nobody writes any more: all that is there, but for what
    a later segment says was given up."""

    committed = Position(2**63 - 1, 0)  # behind every segment

    def durable_end(self, number: int) -> int | None:
        return None


class Found(NamedTuple):
    """A frame, from `start` to `end`, written at `at` in microseconds since the epoch. Or, with
    None as its `kind`, what stands where one should begin, up to the zeros at the end of the
    segment: it was never acknowledged, or the disk has lost what it was given."""

    kind: int | None
    payload: bytes
    start: Position
    end: Position
    at: int = 0


class SpoolCursor:
    """Goes once through what is committed. Everything may block and raises OSError, and may be
    called again after that."""

    def __init__(
        self, directory: Path, disk: Disk, committed: Committed, position: Position = START
    ) -> None:
        """`position` is where a frame begins, or START."""
        self._directory = directory
        self._disk = disk
        self._committed = committed
        self._last_holding = position.segment  # of those it has been through that held something
        self._enter(position)

    def read(self) -> list[Found]:
        """What some READ_BYTES hold, or more where a frame is longer. Empty where nothing waits."""
        while True:
            # First: what is closed then, has its end.
            last = self._committed.committed.segment
            found = self._read_segment(closed=self.position.segment < last)
            if found:
                self._check_start(found[0])
                self._last_holding = self.position.segment
            if found or not self._enter_next(last):
                return found

    def _enter(self, position: Position) -> None:
        self.position = position  # where the next frame begins
        self._read_up_to = position.offset  # what the reader has been fed
        self._reader = FrameReader()
        self._named_end: int | None = None  # what a later segment says, once it was looked for
        self._looked_for_end = False

    def _enter_next(self, last: int) -> bool:
        """The next segment that is there, but none after `last`."""
        for number in list_segments(self._disk, self._directory):
            if self.position.segment < number <= last:
                self._enter(Position(number, 0))
                return True
        return False

    def _read_segment(self, *, closed: bool) -> list[Found]:
        limit = self._limit()
        while True:
            size = READ_BYTES if limit is None else min(READ_BYTES, limit - self._read_up_to)
            data = self._read(size, missed=limit is not None) if size > 0 else b""
            if not data:
                return self._damage(limit) if closed else []
            self._read_up_to += len(data)
            found = []
            for frame in self._reader.feed(data):
                after = self.position._replace(offset=self.position.offset + frame.size_bytes)
                found.append(Found(frame.kind, frame.payload, self.position, after, frame.at))
                self.position = after
            if found:
                return found

    def _limit(self) -> int | None:
        """Up to where this segment holds what was acknowledged, if anybody knows."""
        if self.position.segment == START.segment:
            return 0
        limit = self._committed.durable_end(self.position.segment)
        if limit is None and not self._looked_for_end:
            self._named_end = self._end_named_later()
            self._looked_for_end = True
        return self._named_end if limit is None else limit

    def _end_named_later(self) -> int | None:
        """By the first later segment whose beginning is whole. None where there is no such, or
        where it follows another, that is missing."""
        for number in list_segments(self._disk, self._directory):
            if number <= self.position.segment:
                continue
            path = segment_path(self._directory, number)
            start = read_segment_start(self._disk.read(path, 0, START_BYTES))
            if start is None:
                continue
            previous = start.previous or START
            if previous.segment == self.position.segment:
                return previous.offset
            return 0 if previous.segment < self.position.segment else None
        return None

    def _check_start(self, found: Found) -> None:
        """Tells of a segment that should stand between this one and the last that held something.
        What stood before the first that we read is not for us to say."""
        if found.kind != FrameKind.SEGMENT or self._last_holding == START.segment:
            return
        try:
            previous = decode_segment_start(found.payload).previous or START
        except PayloadUnreadable:
            return
        if previous.segment > self._last_holding:
            path = segment_path(self._directory, previous.segment)
            log.error("audit_segment_missing", segment=str(path), offset=0)

    def _read(self, size: int, *, missed: bool = False) -> bytes:
        path = segment_path(self._directory, self.position.segment)
        try:
            data = self._disk.read(path, self._read_up_to, size)
        except FileNotFoundError:  # it was shipped whole before
            data = b""
        if missed and not data:
            log.error("audit_segment_missing", segment=str(path), offset=self._read_up_to)
        return data

    def _damage(self, limit: int | None) -> list[Found]:
        """At the end of a segment, once: `position` is then at the end of what was read."""
        start, end = self.position, Position(self.position.segment, self._read_up_to)
        if start == end:
            return []
        path = segment_path(self._directory, start.segment)
        may_be_empty = limit is None and not self._reader.damaged
        if may_be_empty and not any(self._disk.read(path, start.offset, HEADER.size)):
            return []  # zeros, as in every segment that was not filled
        data = self._disk.read(path, start.offset, end.offset - start.offset).rstrip(b"\0")
        self.position = end
        return [Found(None, data, start, end)] if data or limit is not None else []
