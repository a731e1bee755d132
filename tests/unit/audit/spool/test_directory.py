"""Directories of writers: one process has each, whatever others do, and a dead one's is found."""

import contextlib
import errno
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from app.audit.spool.directory import OwnDirectory, abandoned, open_own
from tests.support.forks import fork, kill


@contextlib.contextmanager
def in_a_child(do: Callable[[], object]) -> Iterator[None]:
    """A process that has done it and lives on; it is killed at the end."""
    receiver, sender = os.pipe()

    def live() -> None:
        os.close(receiver)
        do()
        os.write(sender, b".")
        signal.pause()

    pid = fork(live)
    os.close(sender)
    try:
        assert os.read(receiver, 1) == b"."
        yield
    finally:
        os.close(receiver)
        kill(pid)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def released(directories: list[OwnDirectory]) -> list[Path]:
    for directory in directories:
        directory.close()
    return [directory.path for directory in directories]


def test_a_directory_is_private_and_named_by_nothing_of_a_request(tmp_path: Path) -> None:
    root = tmp_path / "home" / "audit"
    own = open_own(root)
    assert own.path.parent == root
    assert re.fullmatch("[0-9a-f]{32}", own.writer)
    assert mode(root) == mode(own.path) == 0o700
    assert mode(own.path / "lock") == 0o600
    own.close()


def test_a_directory_is_there_also_after_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name or that of one above it stands in was synced once it stood there."""
    synced: dict[int, list[str]] = {}

    def note(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = os.listdir(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    root = tmp_path / "home" / "audit"
    own = open_own(root)
    own.close()
    for path in (root.parent, root, own.path):
        assert path.name in synced[path.parent.stat().st_ino]


def test_each_writer_has_its_own(tmp_path: Path) -> None:
    first, second = open_own(tmp_path), open_own(tmp_path)
    assert first.path != second.path
    assert abandoned(tmp_path) == []  # also for those who live in the same process
    first.close()
    second.close()


def test_what_a_living_process_holds_is_left_to_it(tmp_path: Path) -> None:
    with in_a_child(lambda: open_own(tmp_path)):
        assert len(list(tmp_path.iterdir())) == 1
        assert abandoned(tmp_path) == []


def test_what_a_killed_process_held_is_taken_over_once(tmp_path: Path) -> None:
    with in_a_child(lambda: open_own(tmp_path)):
        (path,) = tmp_path.iterdir()
        (path / "00000001.spool").write_bytes(b"records")
    taken = abandoned(tmp_path)
    assert [(one.path, one.writer) for one in taken] == [(path, path.name)]
    assert abandoned(tmp_path) == []  # it is held
    assert released(taken) == [path]
    assert (path / "00000001.spool").read_bytes() == b"records"
    assert released(abandoned(tmp_path)) == [path]  # let go of, and found by the next


def test_what_is_taken_over_is_abandoned_again_if_its_new_holder_is_killed(tmp_path: Path) -> None:
    released([open_own(tmp_path)])
    with in_a_child(lambda: abandoned(tmp_path)):
        assert abandoned(tmp_path) == []
    assert len(released(abandoned(tmp_path))) == 1


def test_a_removed_directory_is_gone(tmp_path: Path) -> None:
    own = open_own(tmp_path)
    own.remove()
    assert list(tmp_path.iterdir()) == []
    assert abandoned(tmp_path) == []
    own.close()
    with pytest.raises(ValueError, match="not ours"):
        own.remove()


def test_a_directory_with_something_in_it_is_not_removed(tmp_path: Path) -> None:
    own = open_own(tmp_path)
    (own.path / "00000001.spool").touch()
    with pytest.raises(OSError) as caught:
        own.remove()
    assert caught.value.errno == errno.ENOTEMPTY
    assert abandoned(tmp_path) == []  # still held
    (own.path / "00000001.spool").unlink()
    own.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_a_lock_is_swept_if_empty_and_kept_if_not(tmp_path: Path) -> None:
    empty, full = tmp_path / ("a" * 32), tmp_path / ("b" * 32)
    empty.mkdir()
    full.mkdir()
    (full / "00000001.spool").write_bytes(b"records")
    taken = abandoned(tmp_path)
    assert not empty.exists()
    assert abandoned(tmp_path) == []
    assert released(taken) == [full]
    assert (full / "00000001.spool").read_bytes() == b"records"


def test_what_is_no_writers_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "audit"
    assert abandoned(root) == []  # not there yet
    root.mkdir()
    (root / "lost+found").mkdir()
    (root / ("c" * 32)).write_bytes(b"a file")
    (root / ("d" * 32)).symlink_to(elsewhere)
    (root / ("E" * 32)).mkdir()
    before = sorted(root.iterdir())
    assert abandoned(root) == []
    assert sorted(root.iterdir()) == before
    assert list(elsewhere.iterdir()) == []


def test_one_that_cannot_be_opened_hides_no_other(tmp_path: Path) -> None:
    odd = tmp_path / ("0" * 32)
    odd.mkdir()
    (odd / "lock").symlink_to(tmp_path / "target")  # never followed
    released([open_own(tmp_path)])
    with structlog.testing.capture_logs() as lines:
        taken = abandoned(tmp_path)
    assert len(released(taken)) == 1
    assert [line["event"] for line in lines] == ["audit_directory_unreadable"]
    assert not (tmp_path / "target").exists()


def test_a_lock_that_is_taken_while_it_is_made_is_left_to_its_taker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process comes between our making of a directory and our locking of it."""
    mkdir = Path.mkdir
    stolen: list[OwnDirectory] = []

    def mkdir_and_lose(path: Path, mode: int = 0o777, **options: bool) -> None:
        mkdir(path, mode, **options)
        if len(path.name) == 32 and not stolen:
            (path / "lock").touch()
            stolen.extend(abandoned(tmp_path))

    monkeypatch.setattr(Path, "mkdir", mkdir_and_lose)
    own = open_own(tmp_path)
    assert len(stolen) == 1
    assert own.path != stolen[0].path
    released([own, *stolen])


def test_a_lock_of_a_removed_directory_is_worth_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder removes the directory between our opening of the lock and our locking of it."""
    held = open_own(tmp_path)
    opened = os.open

    def open_and_be_late(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = opened(path, flags, mode)
        if Path(path).name == "lock":
            held.remove()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_be_late)
    assert abandoned(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_processes_that_open_take_and_remove_at_once_never_share_one(tmp_path: Path) -> None:
    """Each marks what it holds with a file that must not be there already."""
    pids = [fork(lambda: churn(tmp_path, rounds=40)) for _ in range(6)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
    for left in abandoned(tmp_path):
        left.remove()
    assert list(tmp_path.iterdir()) == []


def churn(root: Path, *, rounds: int) -> None:
    for turn in range(rounds):
        own = open_own(root)
        for directory in (own, *abandoned(root)):
            mark = directory.path / "mark"
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            mark.unlink()
            if directory is own and turn % 2:
                directory.close()
            else:
                directory.remove()
