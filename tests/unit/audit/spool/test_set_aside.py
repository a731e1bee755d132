"""The file of what the database refuses."""

import errno
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.audit.chain import GENESIS
from app.audit.spool.cursor import Found
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import FrameKind
from app.audit.spool.segments import Position
from app.audit.spool.set_aside import SET_ASIDE_NAME, SetAside
from app.audit.spool.spooled_record import SpooledRecord
from tests.support.faulty_disk import FaultyDisk, Operation


def spooled(offset: int, payload: bytes = b"{}") -> SpooledRecord:
    found = Found(FrameKind.OUTCOME, payload, Position(1, offset), Position(1, offset + 1), at=7)
    return SpooledRecord(found, GENESIS, GENESIS, problem="unreadable")


def lines(directory: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (directory / SET_ASIDE_NAME).read_bytes().splitlines()]


def test_a_record_is_kept_once_however_often_it_comes(tmp_path: Path) -> None:
    first = SetAside(tmp_path, "w1", RealDisk())
    for offset in (0, 9, 0, 9):
        first.keep(spooled(offset), "why")
    again = SetAside(tmp_path, "w1", RealDisk())
    again.keep(spooled(9), "why")
    again.keep(spooled(18, b"\xff"), "why not")
    assert lines(tmp_path) == [
        {**COMMON, "offset": 0, "reason": "why", "payload": "{}"},
        {**COMMON, "offset": 9, "reason": "why", "payload": "{}"},
        {**COMMON, "offset": 18, "reason": "why not", "payload_hex": "ff"},
    ]


COMMON = {"writer": "w1", "segment": 1, "kind": 2, "at": 7, "request_id": None}


def test_a_line_that_a_crash_has_cut_is_written_again(tmp_path: Path) -> None:
    SetAside(tmp_path, "w1", RealDisk()).keep(spooled(0), "why")
    whole = (tmp_path / SET_ASIDE_NAME).read_bytes()
    (tmp_path / SET_ASIDE_NAME).write_bytes(whole + whole[:20])
    SetAside(tmp_path, "w1", RealDisk()).keep(spooled(9), "why")
    assert [line["offset"] for line in lines(tmp_path)] == [0, 9]


def test_a_file_is_taken_over_once(tmp_path: Path) -> None:
    dead, own = tmp_path / "dead", tmp_path / "own"
    for directory in (dead, own):
        directory.mkdir()
    SetAside(dead, "w1", RealDisk()).keep(spooled(0), "why")
    data = (dead / SET_ASIDE_NAME).read_bytes()
    heir = SetAside(own, "w2", RealDisk())
    heir.keep(spooled(0), "why")
    for _ in range(2):  # as after a crash before the removal
        (dead / SET_ASIDE_NAME).write_bytes(data)
        heir.take_over(dead)
    heir.take_over(dead)  # nothing there
    assert [line["writer"] for line in lines(own)] == ["w2", "w1"]
    assert not (dead / SET_ASIDE_NAME).exists()


def test_what_a_disk_may_not_have_kept_is_written_again(tmp_path: Path) -> None:
    disk = FaultyDisk(RealDisk())
    set_aside = SetAside(tmp_path, "w1", disk)
    disk.fail(Operation.SYNC_DIRECTORY, errno.EIO, times=1)
    with pytest.raises(OSError):
        set_aside.keep(spooled(0), "why")
    (tmp_path / SET_ASIDE_NAME).write_bytes(b"")
    set_aside.keep(spooled(0), "why")
    assert [line["offset"] for line in lines(tmp_path)] == [0]
