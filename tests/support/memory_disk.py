"""A disk in memory that knows what it would still hold after a power failure."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR_BYTES = 512


@dataclass(slots=True)
class _Contents:
    written: bytearray
    synced: bytearray  # what a power failure leaves for sure
    named: bool = False  # whether a power failure leaves the file


@dataclass(slots=True)
class MemoryDisk:
    """Implements Disk, for two threads. Every directory is there; `capacity_bytes` is shared by
    all."""

    capacity_bytes: int = 1 << 40
    _files: dict[Path, _Contents] = field(default_factory=dict)

    def create_segment(self, path: Path, size_bytes: int) -> "_MemorySegmentFile":
        if path in self._files:
            raise FileExistsError(errno.EEXIST, "it is there already", str(path))
        if size_bytes > self.free_bytes(path.parent):
            raise OSError(errno.ENOSPC, "the disk is full", str(path))
        contents = _Contents(bytearray(size_bytes), bytearray(size_bytes))
        self._files[path] = contents
        return _MemorySegmentFile(contents)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return bytes(self._files[path].written[offset : offset + size])

    def sync_file(self, path: Path) -> None:
        contents = self._files[path]
        contents.synced = bytearray(contents.written)

    def sync_directory(self, path: Path) -> None:
        for file, contents in tuple(self._files.items()):
            contents.named |= file.parent == path

    def free_bytes(self, path: Path) -> int:
        used = sum(len(contents.written) for contents in tuple(self._files.values()))
        return self.capacity_bytes - used

    def rename(self, path: Path, new_path: Path) -> None:
        self._files[new_path] = self._files.pop(path)

    def remove(self, path: Path) -> None:
        self._files.pop(path, None)

    def list(self, path: Path) -> Sequence[Path]:
        return sorted(file for file in tuple(self._files) if file.parent == path)

    def put(self, path: Path, data: bytes) -> None:
        """A file as a test wants it, durable."""
        self._files[path] = _Contents(bytearray(data), bytearray(data), named=True)

    def fail_power(self, random: Random) -> "MemoryDisk":
        """What is there when it comes back: of the sectors that were written and not synced some,
        in no order, and of the files whose directory was not synced none."""
        after = MemoryDisk(self.capacity_bytes)
        for path, contents in self._files.items():
            if contents.named:
                after.put(path, _torn(contents, random))
        return after


class _MemorySegmentFile:
    def __init__(self, contents: _Contents) -> None:
        self._contents = contents
        self._end = 0

    def write(self, data: bytes) -> None:
        end = self._end + len(data)
        if end > len(self._contents.written):
            missing = end - len(self._contents.written)
            self._contents.written.extend(bytes(missing))
        self._contents.written[self._end : end] = data
        self._end = end

    def sync(self) -> None:
        self._contents.synced = bytearray(self._contents.written)

    def close(self) -> None:
        pass


def _torn(contents: _Contents, random: Random) -> bytes:
    kept = bytearray(contents.synced)
    kept.extend(bytes(len(contents.written) - len(kept)))
    for start in range(0, len(kept), SECTOR_BYTES):
        sector = slice(start, start + SECTOR_BYTES)
        if random.random() < 0.5:
            kept[sector] = contents.written[sector]
    return bytes(kept)
