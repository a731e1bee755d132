"""`gateway`, on a disk that stands still while a file is there.

    python -m tests.integration.audit.promises.holding write|sync FILE serve ...

It stands still before a write, or between it and its sync; FILE with the suffix `.held` then says
so. What it writes before the file is made goes through.
"""

import sys
import time
from pathlib import Path

from app.audit import start
from app.audit.spool.disk import RealDisk, SegmentFile
from app.cli import main

POLL_SECONDS = 0.01


class HoldingDisk(RealDisk):
    def __init__(self, moment: str, file: Path) -> None:
        self._moment = moment
        self._file = file

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        return _HoldingFile(self, super().create_segment(path, size_bytes))

    def pass_or_hold(self, moment: str) -> None:
        while moment == self._moment and self._file.exists():
            self._file.with_suffix(".held").touch()
            time.sleep(POLL_SECONDS)


class _HoldingFile:
    def __init__(self, disk: HoldingDisk, file: SegmentFile) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        self._disk.pass_or_hold("write")
        self._file.write(data)

    def sync(self) -> None:
        self._disk.pass_or_hold("sync")
        self._file.sync()

    def close(self) -> None:
        self._file.close()


if __name__ == "__main__":
    moment, file, *arguments = sys.argv[1:]
    start.RealDisk = lambda: HoldingDisk(moment, Path(file))  # type: ignore[assignment,attr-defined]  # made so once
    main(arguments)
