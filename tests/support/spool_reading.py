"""What a spool holds, for tests: read as after a crash, with nothing but the disk to go by, and in
the plainest way."""

from collections.abc import Iterable
from pathlib import Path

from app.audit.chain import GENESIS, ChainHead, link
from app.audit.spool.disk import Disk
from app.audit.spool.frames import CHAINED, Frame, FrameKind, FrameReader
from app.audit.spool.segment_start import decode_segment_start
from app.audit.spool.segments import Position, list_segments, segment_path

ALL_BYTES = 1 << 30


def read_spool(disk: Disk, directory: Path) -> list[Frame]:
    """The frames of all segments in order, each up to its first damage; but those that a later
    segment does not follow."""
    kept: list[tuple[Position, Frame]] = []
    for number in list_segments(disk, directory):
        frames = read_segment(disk, directory, number)
        if frames and frames[0].kind == FrameKind.SEGMENT:
            previous = decode_segment_start(frames[0].payload).previous or Position(0, 0)
            kept = [each for each in kept if each[0] <= previous]
        end = 0
        for frame in frames:
            end += frame.size_bytes
            kept.append((Position(number, end), frame))
    return [frame for _, frame in kept]


def read_segment(disk: Disk, directory: Path, number: int, end: int | None = None) -> list[Frame]:
    """Up to `end`, in bytes, where that is given."""
    data = disk.read(segment_path(directory, number), 0, ALL_BYTES if end is None else end)
    return FrameReader().feed(data)


def payloads(frames: Iterable[Frame]) -> list[bytes]:
    """Of what was appended."""
    return [frame.payload for frame in frames if frame.kind != FrameKind.SEGMENT]


def chain_of(frames: Iterable[Frame], head: ChainHead = GENESIS) -> list[ChainHead]:
    """Its heads, one after each event, and the first before all."""
    heads = [head]
    for frame in frames:
        if frame.kind in CHAINED:
            heads.append(link(heads[-1], frame.kind, frame.at, frame.payload))
    return heads
