"""What may be read of a spool: all that is committed, in order, once."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from app.audit.spool import cursor
from app.audit.spool.cursor import Found, SpoolCursor, WriterGone
from app.audit.spool.frames import HEADER, FrameKind, encode
from app.audit.spool.segment_start import SegmentStart, encode_segment_start
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


def put(
    disk: MemoryDisk,
    number: int,
    *payloads: bytes,
    rest: bytes = b"",
    after: Position | None = None,
) -> int:
    """The end of the frames. The first of them says that it follows that of `after`."""
    frames = b"".join(encode(FrameKind.INTENT, payload, at=7) for payload in payloads)
    if after is not None:
        frames = encode(FrameKind.SEGMENT, start(after)) + frames
    data = (frames + rest).ljust(SEGMENT_BYTES, b"\0")
    disk.put(segment_path(DIRECTORY, number), data)
    return len(frames)


def start(after: Position) -> bytes:
    return encode_segment_start(SegmentStart("ab" * 16, after))


def read_all(spool: SpoolCursor) -> list[Found]:
    found = []
    while more := spool.read():
        found += more
    return found


def payloads(found: list[Found]) -> list[bytes]:
    """Of what was appended, and of damage."""
    return [each.payload for each in found if each.kind != FrameKind.SEGMENT]


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
    assert [each.at for each in found] == [7, 7, 7]
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
    assert damage == (None, rest, (1, end), (1, SEGMENT_BYTES), 0)
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


def end_of(payload: bytes) -> int:
    return HEADER.size + len(payload)


def test_what_a_dead_writer_gave_up_is_not_read(disk: MemoryDisk) -> None:
    """It was written again to the next segment, or refused."""
    put(disk, 1, b"a", b"given up")
    put(disk, 2, b"given up whole")
    put(disk, 4, b"b", after=Position(1, end_of(b"a")))
    assert payloads(read_all(SpoolCursor(DIRECTORY, disk, WriterGone()))) == [b"a", b"b"]


def test_a_torn_frame_that_was_given_up_is_no_damage(disk: MemoryDisk) -> None:
    put(disk, 1, b"a", rest=encode(FrameKind.INTENT, b"x" * 1000)[:40])
    put(disk, 2, b"b", after=Position(1, end_of(b"a")))
    assert payloads(read_all(SpoolCursor(DIRECTORY, disk, WriterGone()))) == [b"a", b"b"]


def test_a_segment_whose_own_beginning_is_torn_says_nothing_of_those_before(
    disk: MemoryDisk,
) -> None:
    put(disk, 1, b"a", b"b")
    torn = encode(FrameKind.SEGMENT, start(Position(1, end_of(b"a"))))[:-1]
    put(disk, 2, rest=torn)
    found = read_all(SpoolCursor(DIRECTORY, disk, WriterGone()))
    assert payloads(found) == [b"a", b"b", torn]
    assert found[-1].kind is None
    put(disk, 3, b"c", after=Position(1, end_of(b"a")))
    assert payloads(read_all(SpoolCursor(DIRECTORY, disk, WriterGone()))) == [b"a", b"c"]


@pytest.mark.parametrize(
    "lost",
    [b"\xff" * 4, bytes(end_of(b"lost"))],
    ids=["a changed frame", "zeros"],
)
def test_what_was_acknowledged_and_cannot_be_read_is_damage(disk: MemoryDisk, lost: bytes) -> None:
    """By a dead writer's word, and by a living one's."""
    end = end_of(b"a") + end_of(b"lost")
    put(disk, 1, b"a", rest=lost)
    writer = Writer(Position(1, end), {1: end})
    living = SpoolCursor(DIRECTORY, disk, writer)
    assert payloads(read_all(living)) == [b"a"]  # it may still be written
    put(disk, 2, b"b", after=Position(1, end))
    writer.committed, writer.ends = Position(2, 400), {1: end, 2: 400}
    damage = (None, lost.rstrip(b"\0"), (1, end_of(b"a")), (1, end), 0)
    assert [each for each in read_all(living) if each.kind is None] == [damage]
    found = read_all(SpoolCursor(DIRECTORY, disk, WriterGone()))
    assert payloads(found) == [b"a", damage[1], b"b"]
    assert damage in found


def missing(spool: SpoolCursor) -> list[str]:
    with capture_logs() as logs:
        read_all(spool)
    assert {line["event"] for line in logs} <= {"audit_segment_missing"}
    return [Path(line["segment"]).name for line in logs]


def test_a_segment_that_is_missing_between_two_is_told(disk: MemoryDisk) -> None:
    put(disk, 1, b"a")
    end = put(disk, 5, b"b", after=Position(3, 100))
    put(disk, 6, b"c", after=Position(5, end))
    assert missing(SpoolCursor(DIRECTORY, disk, WriterGone())) == ["00000003.spool"]


def test_segments_that_were_shipped_and_removed_are_not_missed(disk: MemoryDisk) -> None:
    first = put(disk, 3, b"a", after=Position(2, 100))
    end = put(disk, 5, b"b", after=Position(3, first))
    assert missing(SpoolCursor(DIRECTORY, disk, WriterGone())) == []
    assert missing(SpoolCursor(DIRECTORY, disk, WriterGone(), Position(3, 0))) == []
    writer = Writer(Position(5, end), {3: first, 5: end})
    spool = SpoolCursor(DIRECTORY, disk, writer, Position(3, first))
    disk.remove(segment_path(DIRECTORY, 3))
    assert missing(spool) == []
