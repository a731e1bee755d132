"""What the spool asks of a disk, and the real one. Everything may block, and raises OSError."""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_ZEROS = bytes(1024 * 1024)

# What a filesystem that cannot preallocate answers; writing zeros does the same there, slowly.
_CANNOT_PREALLOCATE = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})


class SegmentFile(Protocol):
    """A segment that is being written, from its beginning. After any OSError it is only closed: a
    sync that fails may have dropped what it was to write, and a second one would not say so."""

    def write(self, data: bytes) -> None:
        """All of it, behind what was written before. Durable only after `sync`."""

    def sync(self) -> None: ...

    def close(self) -> None:
        """Without a sync."""


class Disk(Protocol):
    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        """A new file of that many zeros whose room is taken, so that writing it fails for want of
        none. Nothing is left of it when it fails. Its name is durable after `sync_directory`."""

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or fewer where the file ends."""

    def sync_file(self, path: Path) -> None:
        """What another process wrote there, before it is relied on."""

    def sync_directory(self, path: Path) -> None: ...

    def rename(self, path: Path, new_path: Path) -> None:
        """Within its directory, to a name that nothing has. Durable after `sync_directory`."""

    def remove(self, path: Path) -> None:
        """The file; nothing happens where it is gone already."""

    def list(self, path: Path) -> Sequence[Path]:
        """What is in that directory, by name."""


class RealDisk:
    """Implements Disk."""

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, _FILE_MODE)
        try:
            _preallocate(descriptor, size_bytes)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):  # the first failure is what matters
                path.unlink()
            raise
        return _RealSegmentFile(descriptor)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync_data(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, path: Path, new_path: Path) -> None:
        path.rename(new_path)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def list(self, path: Path) -> Sequence[Path]:
        return sorted(path.iterdir())


class _RealSegmentFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = 0

    def write(self, data: bytes) -> None:
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                count = os.pwrite(self._descriptor, view[written:], self._end + written)
                if not count:
                    raise OSError(errno.EIO, "nothing was written")
                written += count
        self._end += len(data)

    def sync(self) -> None:
        _sync_data(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


# macOS has neither of the two.
_sync_data = getattr(os, "fdatasync", os.fsync)
_posix_fallocate = getattr(os, "posix_fallocate", None)


def _preallocate(descriptor: int, size_bytes: int) -> None:
    if _posix_fallocate is not None:
        try:
            _posix_fallocate(descriptor, 0, size_bytes)
        except OSError as error:
            if error.errno not in _CANNOT_PREALLOCATE:
                raise
        else:
            return
    offset = 0
    while offset < size_bytes:
        offset += os.pwrite(descriptor, _ZEROS[: size_bytes - offset], offset)
