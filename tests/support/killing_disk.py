"""A disk whose process is killed at a given one of its operations."""

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

from app.audit.spool.disk import Disk, SegmentFile
from tests.support.forks import kill_myself

T = TypeVar("T")


class Moment(Enum):
    BEFORE = "before"
    WITHIN = "within"  # a write that is done in part; before, for anything else
    AFTER = "after"


class KillingDisk:
    """Implements Disk. `kill` is called at the operation of that number, from 0 on; if it returns,
    what happens on the disk from then on is of no interest."""

    def __init__(
        self,
        disk: Disk,
        operation: int,
        moment: Moment,
        written_share: float = 0.5,
        kill: Callable[[], object] = kill_myself,
    ) -> None:
        """`written_share` of its bytes are written where it dies within a write."""
        self._disk = disk
        self._left = operation
        self._moment = moment
        self._written_share = written_share
        self._kill = kill

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        file = self.at_risk(lambda: self._disk.create_segment(path, size_bytes))
        return _KillingFile(file, self)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        return self.at_risk(lambda: self._disk.read(path, offset, size))

    def sync_file(self, path: Path) -> None:
        self.at_risk(lambda: self._disk.sync_file(path))

    def sync_directory(self, path: Path) -> None:
        self.at_risk(lambda: self._disk.sync_directory(path))

    def rename(self, path: Path, new_path: Path) -> None:
        self.at_risk(lambda: self._disk.rename(path, new_path))

    def remove(self, path: Path) -> None:
        self.at_risk(lambda: self._disk.remove(path))

    def list(self, path: Path) -> Sequence[Path]:
        return self.at_risk(lambda: self._disk.list(path))

    def at_risk(self, do: Callable[[], T], in_part: Callable[[float], object] | None = None) -> T:
        moment = self._moment if self._left == 0 else None
        self._left -= 1
        if moment is Moment.WITHIN and in_part is not None:
            in_part(self._written_share)
        if moment in (Moment.BEFORE, Moment.WITHIN):
            self._kill()
        try:
            return do()
        finally:  # also where it failed
            if moment is Moment.AFTER:
                self._kill()


class _KillingFile:
    """Implements SegmentFile."""

    def __init__(self, file: SegmentFile, disk: KillingDisk) -> None:
        self._file = file
        self._disk = disk

    def write(self, data: bytes) -> None:
        self._disk.at_risk(
            lambda: self._file.write(data),
            lambda share: self._file.write(data[: int(len(data) * share)]),
        )

    def sync(self) -> None:
        self._disk.at_risk(self._file.sync)

    def close(self) -> None:
        self._disk.at_risk(self._file.close)
