"""The segments of one writer: how they are named, and which of them it may write.

`00000001.spool` and up, in the order in which they were written. Numbers have gaps: one is used up
by every attempt to make a segment. A reserve segment has its number and its room ahead of its use,
so the highest segments of a directory may hold nothing.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.audit.spool.disk import Disk, SegmentFile

SEGMENT_SUFFIX = ".spool"
_NUMBER_DIGITS = 8

# Kept free in a segment that is not begun, for the frame that says how it follows the one before:
# four numbers, a hash and the writer's id, some 250 bytes.
START_BYTES = 512


class Position(NamedTuple):
    """A place in a spool. Positions compare as they follow each other."""

    segment: int
    offset: int  # bytes


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:0{_NUMBER_DIGITS}d}{SEGMENT_SUFFIX}"


def segment_number(path: Path) -> int | None:
    """None for a file that is no segment."""
    stem = path.name.removesuffix(SEGMENT_SUFFIX)
    is_segment = stem != path.name and stem.isascii() and stem.isdigit()
    return int(stem) if is_segment else None


def list_segments(disk: Disk, directory: Path) -> Sequence[int]:
    """The numbers of those there, in order. Raises OSError."""
    numbers = (segment_number(path) for path in disk.list(directory))
    return sorted(number for number in numbers if number is not None)


@dataclass(slots=True)
class OpenSegment:
    number: int
    file: SegmentFile
    size_bytes: int
    written_bytes: int = 0
    synced_bytes: int = 0  # up to here it is durable

    @property
    def begun(self) -> bool:
        return self.written_bytes > 0

    @property
    def room_bytes(self) -> int:
        """For frames beside the first, which says how it follows the one before."""
        return self.size_bytes - (self.written_bytes or START_BYTES)

    def write(self, data: bytes) -> None:
        """Durable on return. Raises OSError; the segment is then to be abandoned."""
        self.file.write(data)
        self.written_bytes += len(data)
        self.file.sync()
        self.synced_bytes = self.written_bytes


class Segments:
    """The segment that is written and those in reserve. One thread's own, but for `durable_end`.

    `first_number` is the lowest that it will use: what is there already is left alone.
    """

    def __init__(
        self, directory: Path, disk: Disk, *, segment_bytes: int, reserve_segments: int
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._reserve_segments = reserve_segments
        self._reserve: deque[OpenSegment] = deque()
        self._current: OpenSegment | None = None
        self._ends: dict[int, int] = {}  # of the segments that are closed
        self.first_number = max(list_segments(disk, directory), default=0) + 1
        self._next_number = self.first_number

    def with_room(self, size_bytes: int) -> OpenSegment:
        """The one to write so much to: the next, once the current one is too full, and one of its
        own size where none would be large enough. Raises OSError where there is none; the current
        one stays what it is."""
        if self._current is None or self._current.room_bytes < size_bytes:
            if self.is_oversized(size_bytes):
                following = self._create_oversized(size_bytes)
            else:
                following = self._next()
            self._close_current()
            self._current = following
        return self._current

    def is_oversized(self, size_bytes: int) -> bool:
        """Whether a segment as they usually are has no room for so much."""
        return size_bytes > self._segment_bytes - START_BYTES

    def replenish(self) -> None:
        """Makes what is lacking: a segment to write, and the reserve. Raises OSError."""
        if self._current is None:
            self._current = self._next()
        while len(self._reserve) < self._reserve_segments:
            self._reserve.append(self._create(self._segment_bytes))

    @property
    def lacking(self) -> bool:
        """Whether `replenish` has something to do."""
        return self._current is None or len(self._reserve) < self._reserve_segments

    def abandon_current(self) -> None:
        """After a write or a sync that failed: nothing is written to it any more."""
        self._close_current()

    def durable_end(self, number: int) -> int | None:
        """Up to where that segment is durable, in bytes: what stands behind was not acknowledged.

        None for a segment of a writer before this one.
        """
        if number < self.first_number:
            return None
        current = self._current
        if current is not None and current.number == number:
            return current.synced_bytes
        return self._ends.get(number, 0)

    def close(self) -> None:
        """Closes all, and removes those that hold nothing."""
        self._close_current()
        while self._reserve:
            self._discard(self._reserve.popleft())

    def _next(self) -> OpenSegment:
        return self._reserve.popleft() if self._reserve else self._create(self._segment_bytes)

    def _close_current(self) -> None:
        segment = self._current
        if segment is None:
            return
        # Before it is no longer the current one: `durable_end` is asked by another thread.
        if segment.synced_bytes:
            self._ends[segment.number] = segment.synced_bytes
        self._current = None
        if segment.synced_bytes:
            with suppress(OSError):  # what was acknowledged is durable whatever close says
                segment.file.close()
        else:
            self._discard(segment)

    def _discard(self, segment: OpenSegment) -> None:
        with suppress(OSError):  # an empty segment more does no harm
            segment.file.close()
        with suppress(OSError):  # nor does its file
            self._disk.remove(segment_path(self._directory, segment.number))

    def _create(self, size_bytes: int) -> OpenSegment:
        number = self._take_number()
        path = segment_path(self._directory, number)
        segment = OpenSegment(number, self._disk.create_segment(path, size_bytes), size_bytes)
        try:
            self._disk.sync_directory(self._directory)
        except OSError:
            self._discard(segment)
            raise
        return segment

    def _create_oversized(self, size_bytes: int) -> OpenSegment:
        """Numbers are in the order of writing, so the reserve gets later ones. It is not made anew:
        on a full disk its room would be gone."""
        segment = self._create(size_bytes + START_BYTES)
        try:
            for reserve in self._reserve:
                number = self._take_number()
                self._disk.rename(
                    segment_path(self._directory, reserve.number),
                    segment_path(self._directory, number),
                )
                reserve.number = number
            self._disk.sync_directory(self._directory)
        except OSError:
            self._reserve = deque(sorted(self._reserve, key=lambda reserve: reserve.number))
            self._discard(segment)
            raise
        return segment

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number
