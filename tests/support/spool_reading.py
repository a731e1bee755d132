"""What a spool holds, for tests: read as after a crash, with nothing but the disk to go by."""

from pathlib import Path

from app.audit.spool.disk import Disk
from app.audit.spool.frames import Frame, FrameReader
from app.audit.spool.segments import list_segments, segment_path

ALL_BYTES = 1 << 30


def read_spool(disk: Disk, directory: Path) -> list[Frame]:
    """The frames of all segments in order, each up to its first damage."""
    frames = []
    for number in list_segments(disk, directory):
        frames += read_segment(disk, directory, number)
    return frames


def read_segment(disk: Disk, directory: Path, number: int, end: int | None = None) -> list[Frame]:
    """Up to `end`, in bytes, where that is given."""
    data = disk.read(segment_path(directory, number), 0, ALL_BYTES if end is None else end)
    return FrameReader().feed(data)


def payloads(frames: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in frames]
