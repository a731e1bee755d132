"""A disk that fails when a test says so, and counts what it is asked."""

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.audit.spool.disk import Disk, SegmentFile
from tests.support.memory_disk import MemoryDisk

# A gate that nobody opens is a test that hangs; this makes it one that fails.
GATE_SECONDS = 30.0


class Operation(StrEnum):
    CREATE = "create"
    WRITE = "write"
    SYNC = "sync"
    SYNC_FILE = "sync_file"
    SYNC_DIRECTORY = "sync_directory"
    READ = "read"
    RENAME = "rename"
    REMOVE = "remove"


@dataclass(slots=True)
class _Fault:
    error_number: int
    remaining: float  # times


@dataclass(slots=True)
class FaultyDisk:
    """Implements Disk on another one, which is a MemoryDisk unless a test gives its own.

    A write that fails has written half of it. A sync that fails has synced nothing, and one more on
    the same file is an error of the test: on a real disk it would lie.
    """

    disk: Disk = field(default_factory=MemoryDisk)
    counts: dict[Operation, int] = field(default_factory=lambda: dict.fromkeys(Operation, 0))
    misused: list[str] = field(default_factory=list)  # what was done to a file that had failed
    _faults: dict[Operation, _Fault] = field(default_factory=dict)
    _gate: threading.Event = field(default_factory=threading.Event)
    _at_gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._gate.set()

    def fail(
        self, operation: Operation, error_number: int = errno.EIO, *, times: float = float("inf")
    ) -> None:
        self._faults[operation] = _Fault(error_number, times)

    def heal(self) -> None:
        self._faults.clear()

    @contextmanager
    def hold_syncs(self) -> Iterator[threading.Event]:
        """Syncs wait until the block ends. The event is set once one waits."""
        self._at_gate.clear()
        self._gate.clear()
        try:
            yield self._at_gate
        finally:
            self._gate.set()

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        self.count(Operation.CREATE)
        self.check(Operation.CREATE)
        return _FaultySegmentFile(self, self.disk.create_segment(path, size_bytes))

    def read(self, path: Path, offset: int, size: int) -> bytes:
        self.count(Operation.READ)
        self.check(Operation.READ)
        return self.disk.read(path, offset, size)

    def sync_file(self, path: Path) -> None:
        self.count(Operation.SYNC_FILE)
        self.check(Operation.SYNC_FILE)
        self.disk.sync_file(path)

    def sync_directory(self, path: Path) -> None:
        self.count(Operation.SYNC_DIRECTORY)
        self.check(Operation.SYNC_DIRECTORY)
        self.disk.sync_directory(path)

    def rename(self, path: Path, new_path: Path) -> None:
        self.count(Operation.RENAME)
        self.check(Operation.RENAME)
        self.disk.rename(path, new_path)

    def remove(self, path: Path) -> None:
        self.count(Operation.REMOVE)
        self.check(Operation.REMOVE)
        self.disk.remove(path)

    def list(self, path: Path) -> Sequence[Path]:
        return self.disk.list(path)

    def count(self, operation: Operation) -> None:
        self.counts[operation] += 1

    def check(self, operation: Operation) -> None:
        fault = self._faults.get(operation)
        if fault is not None and fault.remaining > 0:
            fault.remaining -= 1
            raise OSError(fault.error_number, f"{operation} fails")

    def wait_at_gate(self) -> None:
        if not self._gate.is_set():
            self._at_gate.set()
            if not self._gate.wait(GATE_SECONDS):
                self.misused.append("nobody let the syncs go on")


class _FaultySegmentFile:
    def __init__(self, faults: FaultyDisk, file: SegmentFile) -> None:
        self._faults = faults
        self._file = file
        self._failed = False

    def write(self, data: bytes) -> None:
        self._faults.count(Operation.WRITE)
        if self._failed:
            self._faults.misused.append("a write after a failure")
        try:
            self._faults.check(Operation.WRITE)
        except OSError:
            self._failed = True
            self._file.write(data[: len(data) // 2])
            raise
        self._file.write(data)

    def sync(self) -> None:
        self._faults.count(Operation.SYNC)
        if self._failed:
            self._faults.misused.append("a sync after a failure")
        self._faults.wait_at_gate()
        try:
            self._faults.check(Operation.SYNC)
        except OSError:
            self._failed = True
            raise
        self._file.sync()

    def close(self) -> None:
        self._file.close()
