"""The frames of a spool segment: records one after the other, each with its length and checksum.

    length  u32  bytes of the payload
    crc32   u32  of the kind, the time and the payload
    kind    u8   a FrameKind; 0 never stands here
    at      u64  when it was written, in microseconds since the epoch
    payload

All little-endian. A segment is preallocated, so zeros follow its last frame. Nothing here does I/O.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

HEADER = struct.Struct("<IIBQ")
_CHECKED = struct.Struct("<BQ")  # of the header, what the checksum covers

# Above the largest body that the edge can be set to take (40 MiB), and with its header well within
# the default segment (64 MiB). It bounds what a damaged length can make a reader gather.
MAX_PAYLOAD_BYTES = 48 * 1024 * 1024

_ZEROS = bytes(HEADER.size)


class FrameKind(IntEnum):
    """What a payload is. On disk: never renumbered."""

    INTENT = 1
    OUTCOME = 2
    MESSAGE = 3  # content, known by its address
    BODY = 4  # what content a request refers to, for a recovery
    CHUNK = 5  # of an answer that is under way, for a recovery
    CHECKPOINT = 6
    REGISTRATION = 7  # the first event of every chain
    ERASURE = 8
    RETENTION = 9
    SEGMENT = 10  # how a segment follows the one before


CHAINED = frozenset(
    {
        FrameKind.INTENT,
        FrameKind.OUTCOME,
        FrameKind.CHECKPOINT,
        FrameKind.REGISTRATION,
        FrameKind.ERASURE,
        FrameKind.RETENTION,
    }
)
SHIPPED = CHAINED | {FrameKind.MESSAGE}


@dataclass(frozen=True, slots=True)
class Frame:
    """`kind` is a number that FrameKind does not name where a newer version wrote the frame. `at`,
    in microseconds since the epoch, is the writer's to say: 0 before it was written."""

    kind: int
    payload: bytes
    at: int = 0

    @property
    def size_bytes(self) -> int:
        """On the disk."""
        return HEADER.size + len(self.payload)


def check_frame(kind: int, payload: bytes) -> None:
    """Raises ValueError for what no reader would take: a payload that is too long, and a kind that
    is none."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes: {MAX_PAYLOAD_BYTES} are allowed")
    if not 0 < kind < 256:
        raise ValueError(f"{kind} is no kind of frame")


def encode(kind: int, payload: bytes, at: int = 0) -> bytes:
    """One frame, to be written as it is. Raises ValueError as `check_frame` does."""
    check_frame(kind, payload)
    return header(kind, payload, at) + payload


def header(kind: int, payload: bytes, at: int) -> bytes:
    """What stands before the payload, by itself: a payload may be too long to be copied for it."""
    return HEADER.pack(len(payload), _checksum(kind, at, payload), kind, at)


class FrameReader:
    """Finds the frames in a segment's bytes, however they are cut.

    It stops for good at the first byte that is not a frame's: what is behind cannot be trusted to
    begin where a frame does, since payloads hold what strangers wrote. Zeros where a frame would
    begin are the end of the segment, not damage; anything but zeros behind them is. Bytes of a
    frame whose rest has not come are neither: `consumed` is then less than what was fed.
    """

    def __init__(self) -> None:
        self.consumed = 0  # bytes, up to the end of the last whole good frame
        self.damaged = False  # what follows `consumed` is not a frame, and not only zeros
        self._ended = False  # zeros stood where a frame begins
        self._rest = bytearray()  # what was fed behind `consumed`, while that may become a frame

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data`, the bytes that follow those fed before, completes."""
        if self._has_stopped(data):
            return []
        self._rest += data
        frames = []
        position = 0
        with memoryview(self._rest) as view:
            while (frame := self._frame_at(view, position)) is not None:
                frames.append(frame)
                position += frame.size_bytes
        self.consumed += position
        del self._rest[:position]
        if self._has_stopped(self._rest):
            self._rest.clear()
        return frames

    def _has_stopped(self, rest: bytes | bytearray) -> bool:
        """At the end or at damage, which `rest`, the bytes that follow the end, may be."""
        if self._ended and not self.damaged:
            self.damaged = rest.count(0) != len(rest)
        return self._ended or self.damaged

    def _frame_at(self, view: memoryview, position: int) -> Frame | None:
        """None where no whole good frame begins there: damage or the end, or too few bytes yet."""
        start = position + HEADER.size
        if start > len(view):
            return None
        if view[position:start] == _ZEROS:
            self._ended = True
            return None
        length, checksum, kind, at = HEADER.unpack_from(view, position)
        if length > MAX_PAYLOAD_BYTES or kind == 0:
            self.damaged = True
            return None
        end = start + length
        if end > len(view):
            return None
        payload = bytes(view[start:end])
        if _checksum(kind, at, payload) != checksum:
            self.damaged = True
            return None
        return Frame(_kind(kind), payload, at)


def _checksum(kind: int, at: int, payload: bytes) -> int:
    return crc32(payload, crc32(_CHECKED.pack(kind, at)))


def _kind(number: int) -> int:
    return FrameKind(number) if number in _KINDS else number


_KINDS = frozenset(FrameKind)
