"""The frames of a spool segment: records one after the other, each with its length and checksum.

    length  u32  bytes of the payload
    crc32   u32  of the kind and the payload
    kind    u8   a FrameKind; 0 never stands here
    payload

All little-endian. A segment is preallocated, so zeros follow its last frame. Nothing here does I/O.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

HEADER = struct.Struct("<IIB")

# Above the largest body that the edge accepts (32 MiB), and with its header well within the default
# segment (64 MiB). It bounds what a damaged length can make a reader gather.
MAX_PAYLOAD_BYTES = 48 * 1024 * 1024

_ZEROS = bytes(HEADER.size)


class FrameKind(IntEnum):
    """What a payload is. On disk: never renumbered."""

    INTENT = 1
    OUTCOME = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """`kind` is a number that FrameKind does not name where a newer version wrote the frame."""

    kind: int
    payload: bytes


def encode(kind: int, payload: bytes) -> bytes:
    """One frame, to be written as it is. Raises ValueError for a payload that is too long, and for
    a kind that is none."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes: {MAX_PAYLOAD_BYTES} are allowed")
    if not 0 < kind < 256:
        raise ValueError(f"{kind} is no kind of frame")
    return HEADER.pack(len(payload), _checksum(kind, payload), kind) + payload


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
                position += HEADER.size + len(frame.payload)
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
        length, checksum, kind = HEADER.unpack_from(view, position)
        if length > MAX_PAYLOAD_BYTES or kind == 0:
            self.damaged = True
            return None
        end = start + length
        if end > len(view):
            return None
        payload = bytes(view[start:end])
        if _checksum(kind, payload) != checksum:
            self.damaged = True
            return None
        return Frame(_kind(kind), payload)


def _checksum(kind: int, payload: bytes) -> int:
    return crc32(payload, crc32(bytes((kind,))))


def _kind(number: int) -> int:
    return FrameKind(number) if number in _KINDS else number


_KINDS = frozenset(FrameKind)
