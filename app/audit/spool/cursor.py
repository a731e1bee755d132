"""Reading the frames of a spool in order, segment after segment."""

from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from app.audit.spool.disk import Disk
from app.audit.spool.frames import HEADER, FrameReader
from app.audit.spool.segments import Position, list_segments, segment_path

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
    """Implements Committed for a spool that nobody writes any more: all that is there."""

    committed = Position(2**63 - 1, 0)  # behind every segment

    def durable_end(self, number: int) -> int | None:
        return None


class Found(NamedTuple):
    """A frame, from `start` to `end`. Or, with None as its `kind`, what stands where one should
    begin, up to the zeros at the end of the segment: it was never acknowledged, or the disk has
    lost what it was given."""

    kind: int | None
    payload: bytes
    start: Position
    end: Position


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
        self._enter(position)

    def read(self) -> list[Found]:
        """What some READ_BYTES hold, or more where a frame is longer. Empty where nothing waits."""
        while True:
            # First: what is closed then, has its end.
            last = self._committed.committed.segment
            found = self._read_segment()
            if found or not self._enter_next(last):
                return found

    def _enter(self, position: Position) -> None:
        self.position = position  # where the next frame begins
        self._read_up_to = position.offset  # what the reader has been fed
        self._reader = FrameReader()

    def _enter_next(self, last: int) -> bool:
        """The next segment that is there, but none after `last`."""
        for number in list_segments(self._disk, self._directory):
            if self.position.segment < number <= last:
                self._enter(Position(number, 0))
                return True
        return False

    def _read_segment(self) -> list[Found]:
        limit = self._committed.durable_end(self.position.segment)
        while True:
            size = READ_BYTES if limit is None else min(READ_BYTES, limit - self._read_up_to)
            data = self._read(size, missed=limit is not None) if size > 0 else b""
            if not data:
                return self._damage() if limit is None else []
            self._read_up_to += len(data)
            found = []
            for frame in self._reader.feed(data):
                end = self.position.offset + HEADER.size + len(frame.payload)
                after = Position(self.position.segment, end)
                found.append(Found(frame.kind, frame.payload, self.position, after))
                self.position = after
            if found:
                return found

    def _read(self, size: int, *, missed: bool = False) -> bytes:
        path = segment_path(self._directory, self.position.segment)
        try:
            return self._disk.read(path, self._read_up_to, size)
        except FileNotFoundError:  # it was shipped whole before
            if missed:
                log.error("audit_segment_missing", segment=str(path), offset=self._read_up_to)
            return b""

    def _damage(self) -> list[Found]:
        """At the end of a segment, once: `position` is then at the end of what was read."""
        start, end = self.position, Position(self.position.segment, self._read_up_to)
        if start == end:
            return []
        path = segment_path(self._directory, start.segment)
        if not self._reader.damaged and not any(self._disk.read(path, start.offset, HEADER.size)):
            return []  # zeros, as in every segment that was not filled
        data = self._disk.read(path, start.offset, end.offset - start.offset).rstrip(b"\0")
        self.position = end
        return [Found(None, data, start, end)] if data else []
