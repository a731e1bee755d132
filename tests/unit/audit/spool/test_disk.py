"""The real disk under the spool."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.audit.spool import disk as disk_module
from app.audit.spool.disk import RealDisk

DISK = RealDisk()
SEGMENT_BYTES = 256 * 1024


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The kernel allows no larger one meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def cannot_preallocate(descriptor: int, offset: int, size: int) -> None:
    raise OSError(errno.EOPNOTSUPP, "not on this filesystem")


@pytest.fixture(params=["preallocated", "written", "without the call"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Of a segment, on a filesystem of each kind."""
    if request.param != "preallocated":
        stand_in = cannot_preallocate if request.param == "written" else None
        monkeypatch.setattr(disk_module, "_posix_fallocate", stand_in)
    return tmp_path / "00000001.spool"


def test_a_segment_is_zeros_whose_room_is_taken(path: Path) -> None:
    DISK.create_segment(path, SEGMENT_BYTES).close()
    assert path.read_bytes() == bytes(SEGMENT_BYTES)
    assert path.stat().st_blocks * 512 >= SEGMENT_BYTES


def test_a_segment_is_its_owners_alone(path: Path) -> None:
    DISK.create_segment(path, SEGMENT_BYTES).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_room_there_is_no_segment(path: Path) -> None:
    with largest_file(SEGMENT_BYTES - 1), pytest.raises(OSError) as refused:
        DISK.create_segment(path, SEGMENT_BYTES)
    assert refused.value.errno == errno.EFBIG
    assert not path.exists()


def test_a_segment_that_is_there_is_not_written(path: Path) -> None:
    path.write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        DISK.create_segment(path, SEGMENT_BYTES)
    assert path.read_bytes() == b"kept"


def test_a_segment_is_not_made_through_a_link(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    path.symlink_to(target)
    with pytest.raises(OSError):
        DISK.create_segment(path, SEGMENT_BYTES)
    assert not target.exists()


def test_writes_follow_each_other(path: Path) -> None:
    segment = DISK.create_segment(path, SEGMENT_BYTES)
    segment.write(b"one")
    segment.sync()
    segment.write(b"two")
    segment.sync()
    segment.close()
    assert path.read_bytes() == b"onetwo" + bytes(SEGMENT_BYTES - 6)


def test_what_the_kernel_takes_in_parts_is_written_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = DISK.create_segment(path, SEGMENT_BYTES)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:7], offset))
    segment.write(b"one and two and three")
    segment.write(b", four")
    segment.close()
    assert path.read_bytes().rstrip(b"\0") == b"one and two and three, four"


def test_a_write_that_writes_nothing_is_a_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = DISK.create_segment(path, SEGMENT_BYTES)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
    with pytest.raises(OSError, match="nothing was written"):
        segment.write(b"one")
    segment.close()


def test_reads_any_part(path: Path) -> None:
    path.write_bytes(b"0123456789")
    assert DISK.read(path, 2, 3) == b"234"
    assert DISK.read(path, 8, 100) == b"89"
    assert DISK.read(path, 100, 100) == b""


def test_lists_by_name_and_removes_once_and_again(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    assert [path.name for path in DISK.list(tmp_path)] == ["a", "b", "c"]
    DISK.remove(tmp_path / "b")
    DISK.remove(tmp_path / "b")
    assert [path.name for path in DISK.list(tmp_path)] == ["a", "c"]


def test_syncs_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    DISK.sync_directory(tmp_path)
    DISK.sync_file(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        DISK.sync_directory(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        DISK.sync_file(tmp_path / "none")
