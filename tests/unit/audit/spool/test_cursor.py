"""What may be read of a spool: all that is committed, in order, once."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from app.audit.spool import cursor
from app.audit.spool.cursor import Found, SpoolCursor, WriterGone
from app.audit.spool.frames import HEADER, FrameKind, encode
from app.audit.spool.segments import Position, segment_path
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.memory_disk import MemoryDisk

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 512


@dataclass
class Writer:
    """Implements Committed."""

    committed: Position = Position(1, 0)  # noqa: RUF009 - it cannot be changed
    ends: dict[int, int] = field(default_factory=dict)

    def durable_end(self, number: int) -> int | None:
        return self.ends.get(number, 0)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def put(disk: MemoryDisk, number: int, *payloads: bytes, rest: bytes = b"") -> int:
    """The end of the frames."""
    frames = b"".join(encode(FrameKind.INTENT, payload) for payload in payloads)
    data = (frames + rest).ljust(SEGMENT_BYTES, b"\0")
    disk.put(segment_path(DIRECTORY, number), data)
    return len(frames)


def read_all(spool: SpoolCursor) -> list[Found]:
    found = []
    while more := spool.read():
        found += more
    return found


def payloads(found: list[Found]) -> list[bytes]:
    return [each.payload for each in found]


def test_segments_follow_each_other_whatever_their_numbers(disk: MemoryDisk) -> None:
    put(disk, 3, b"a", b"b")
    put(disk, 7)  # a reserve
    end = put(disk, 12, b"c")
    spool = SpoolCursor(DIRECTORY, disk, WriterGone())
    found = read_all(spool)
    assert payloads(found) == [b"a", b"b", b"c"]
    size = HEADER.size + 1
    assert [each.start for each in found] == [(3, 0), (3, size), (12, 0)]
    assert [each.end for each in found] == [(3, size), (3, 2 * size), (12, end)]
    assert spool.position == (12, end)


@pytest.mark.parametrize("read_bytes", [1, 7, 64, 4096])
def test_it_does_not_matter_how_much_is_read_at_a_time(
    disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(cursor, "READ_BYTES", read_bytes)
    put(disk, 1, b"a" * 100, b"", b"b" * 50)
    put(disk, 2, b"c")
    spool = SpoolCursor(DIRECTORY, disk, WriterGone())
    assert payloads(read_all(spool)) == [b"a" * 100, b"", b"b" * 50, b"c"]


def test_what_is_not_committed_is_not_read(disk: MemoryDisk) -> None:
    put(disk, 1, b"a", b"not acknowledged")
    put(disk, 2, b"b", b"not synced yet")
    writer = Writer()
    spool = SpoolCursor(DIRECTORY, disk, writer)
    assert read_all(spool) == []
    size = HEADER.size + 1
    writer.committed, writer.ends = Position(1, size), {1: size}
    assert payloads(read_all(spool)) == [b"a"]
    assert read_all(spool) == []
    writer.committed, writer.ends = Position(2, size), {1: size, 2: size}
    assert payloads(read_all(spool)) == [b"b"]
    assert spool.position == (2, size)


def test_a_reserve_ahead_of_the_writer_is_not_entered(disk: MemoryDisk) -> None:
    end = put(disk, 1, b"a")
    put(disk, 2)
    writer = Writer(Position(1, end), {1: end})
    spool = SpoolCursor(DIRECTORY, disk, writer)
    read_all(spool)
    assert spool.position == (1, end)


def test_a_position_is_gone_on_from(disk: MemoryDisk) -> None:
    put(disk, 1, b"a", b"b")
    put(disk, 2, b"c")
    start = Position(1, HEADER.size + 1)
    assert payloads(read_all(SpoolCursor(DIRECTORY, disk, WriterGone(), start))) == [b"b", b"c"]


@pytest.mark.parametrize(
    "rest",
    [b"garbage" * 3, encode(FrameKind.INTENT, b"x" * 1000)[:40], b"\0" * 20 + b"late", b"\1"],
    ids=["garbage", "torn", "behind zeros", "a byte"],
)
def test_damage_is_found_once_and_the_next_segment_is_read(disk: MemoryDisk, rest: bytes) -> None:
    end = put(disk, 1, b"a", rest=rest)
    put(disk, 2, b"b")
    spool = SpoolCursor(DIRECTORY, disk, WriterGone())
    first, damage, second = read_all(spool)
    assert (first.payload, second.payload) == (b"a", b"b")
    assert damage == (None, rest, (1, end), (1, SEGMENT_BYTES))
    assert read_all(spool) == []


def test_a_disk_that_fails_in_between_changes_nothing(disk: MemoryDisk) -> None:
    expected = [b"%d" % number for number in range(40)]
    for number in range(10):
        put(disk, number + 1, *expected[number * 4 : number * 4 + 4], rest=b"\1")
    faulty, random = FaultyDisk(disk), Random(7)
    spool = SpoolCursor(DIRECTORY, faulty, WriterGone())
    found: list[Found] = []
    while not found or found[-1].start.segment < 10 or found[-1].kind is not None:
        if random.random() < 0.3:
            faulty.fail(Operation.READ, times=1)
        try:
            found += spool.read()
        except OSError:
            continue
    assert [each.payload for each in found if each.kind is not None] == expected
    assert sum(each.kind is None for each in found) == 10


def test_a_segment_that_is_missing_is_told(disk: MemoryDisk) -> None:
    end = put(disk, 1, b"a")
    writer = Writer(Position(1, end), {1: end})
    spool = SpoolCursor(DIRECTORY, disk, writer)
    read_all(spool)
    writer.committed, writer.ends = Position(2, 5), {1: end + 10, 2: 0}
    disk.remove(segment_path(DIRECTORY, 1))
    with capture_logs() as logs:
        read_all(spool)
    assert [line["event"] for line in logs] == ["audit_segment_missing"]
