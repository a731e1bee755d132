"""A file as the second place: one checkpoint a line, appended and never rotated."""

import os
from pathlib import Path

from app.audit.checkpoints.checkpoint import Checkpoint
from app.audit.checkpoints.publisher import PlaceFailed

FILE_MODE = 0o600
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class FilePlace:
    """Implements Place. Any number of processes may share the file: a line is one write.

    It is opened anew for each, so that one that was moved away is not written to any more.
    """

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn = False  # our last write may have ended within a line

    def publish(self, checkpoint: Checkpoint) -> None:
        line = (b"\n" if self._torn else b"") + checkpoint.payload + b"\n"
        try:
            self._append(line)
        except OSError as error:
            raise PlaceFailed(f"{self._path}: {error.strerror or error}") from error

    def reach(self) -> str:
        # The spool's directory, its default, is made when a gateway starts.
        target = next(each for each in (self._path, *self._path.parents) if each.exists())
        if not os.access(target, os.W_OK):
            raise PlaceFailed(f"{target} may not be written")
        return f"{self._path} may be written"

    def close(self) -> None:
        pass  # nothing is kept open

    def _append(self, line: bytes) -> None:
        made = not self._path.exists()
        descriptor = os.open(self._path, _FLAGS, FILE_MODE)
        try:
            self._torn = True
            if os.write(descriptor, line) != len(line):
                raise OSError("it took a part of a line: no space is left on its disk")
            os.fsync(descriptor)
            self._torn = False
        finally:
            os.close(descriptor)
        if made:
            _sync(self._path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
