"""The spool of a dead process: every request in it gets one end, and nothing else changes."""

import asyncio
import errno
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.audit.chain import ChainHead
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.disk import Disk, RealDisk, SegmentFile
from app.audit.spool.frames import FrameKind, encode
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.spool.recovery import Recovered, crashed_outcome, recover
from app.audit.spool.segment_start import SegmentStart, encode_segment_start
from app.audit.spool.segments import Position, segment_path
from app.audit.spool.writer import SpoolUnavailable
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.spool_life import answer_of
from tests.support.spooled import read_records, read_segments

SIZE_BYTES = 64 * 1024


def intent(request_id: str) -> bytes:
    return encode(FrameKind.INTENT, encode_intent(begun(request_id)))


def begun(request_id: str) -> AuditIntent:
    return AuditIntent(request_id, 1.5, "/v1/x", "key_1", "acme", "qwythos")


def start(after: Position) -> bytes:
    return encode(FrameKind.SEGMENT, encode_segment_start(SegmentStart("ab" * 16, after)))


def ended(request_id: str) -> AuditOutcome:
    return AuditOutcome(request_id, Outcome.COMPLETED, 200, duration_seconds=2.5)


def outcome(request_id: str) -> bytes:
    return encode(FrameKind.OUTCOME, encode_outcome(ended(request_id)))


@dataclass(slots=True)
class Spool:
    directory: Path

    def segment(self, number: int, *frames: bytes, size_bytes: int = SIZE_BYTES) -> None:
        data = b"".join(frames)
        path = segment_path(self.directory, number)
        path.write_bytes(data.ljust(size_bytes, b"\0"))

    def ends(self) -> dict[str, list[Outcome]]:
        outcomes = read_records(self.directory).outcomes
        return {key: [one.outcome for one in found] for key, found in outcomes.items()}

    def names(self) -> list[str]:
        return list(read_segments(self.directory))

    def chain(self) -> ChainHead:
        return read_records(self.directory).chain[-1]

    async def recover(self, disk: Disk | None = None) -> Recovered:
        return await recover(self.directory, disk or RealDisk(), answer_of=answer_of)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


CRASHED = AuditOutcome(
    "c",
    Outcome.CRASHED,
    500,
    error_code="gateway_crashed",
    received_at=1.5,
    route="/v1/x",
    key_id="key_1",
    tenant="acme",
    model="qwythos",
)


async def test_each_intent_without_an_outcome_gets_one(spool: Spool) -> None:
    spool.segment(1, intent("a"), intent("b"), outcome("a"), intent("c"))
    spool.segment(2, outcome("b"), intent("d"))
    before = read_segments(spool.directory)
    recovered = await spool.recover()
    assert recovered == Recovered(records=6, crashed=["c", "d"], chain=spool.chain())
    assert recovered.chain.sequence == 8
    spooled = read_records(spool.directory)
    assert spooled.outcomes == {
        "a": [ended("a")],
        "b": [ended("b")],
        "c": [CRASHED],
        "d": [replace(CRASHED, request_id="d")],
    }
    after = read_segments(spool.directory)
    assert after.keys() - before.keys() == {"00000003.spool"}
    assert before.items() <= after.items()  # what was there is as it was


async def test_it_is_done_once_however_often_it_is_asked_for(spool: Spool) -> None:
    spool.segment(1, intent("a"))
    await spool.recover()
    before = read_segments(spool.directory)
    assert await spool.recover() == Recovered(records=2, chain=spool.chain())
    assert read_segments(spool.directory) == before


async def test_a_spool_in_which_all_is_ended_is_left_as_it_is(spool: Spool) -> None:
    assert await spool.recover() == Recovered()
    assert spool.names() == []
    spool.segment(7, outcome("shipped before"), intent("a"), outcome("a"))
    before = read_segments(spool.directory)
    assert await spool.recover() == Recovered(records=3, chain=spool.chain())
    assert read_segments(spool.directory) == before


async def test_other_files_are_no_segments(spool: Spool) -> None:
    spool.segment(1, intent("a"), outcome("a"))
    (spool.directory / "lock").touch()
    (spool.directory / "set-aside.jsonl").write_bytes(intent("b"))
    assert await spool.recover() == Recovered(records=2, chain=spool.chain())


@pytest.mark.parametrize(
    "torn",
    [
        outcome("a")[:-1],
        outcome("a")[:-1] + b"?",
        outcome("a")[:3],
        b"\xff" * 40,
        bytes(40) + outcome("a"),  # its page reached the disk, the one before did not
    ],
)
@pytest.mark.parametrize("size_bytes", [0, SIZE_BYTES])
async def test_what_follows_damage_was_never_acknowledged(
    spool: Spool, torn: bytes, size_bytes: int
) -> None:
    first = intent("a")
    spool.segment(1, first, torn, size_bytes=size_bytes)
    spool.segment(2, intent("b"), outcome("b"))
    recovered = await spool.recover()
    assert recovered.crashed == ["a"]
    assert recovered.damaged == [Position(1, len(first))]
    assert spool.ends() == {"a": [Outcome.CRASHED], "b": [Outcome.COMPLETED]}


async def test_good_frames_behind_a_bad_one_are_not_read(spool: Spool) -> None:
    bad = intent("x")[:-1] + b"?"
    spool.segment(1, intent("a"), bad, outcome("a"), intent("never acknowledged"))
    recovered = await spool.recover()
    assert recovered.crashed == ["a"]
    assert spool.ends() == {"a": [Outcome.CRASHED]}


async def test_what_was_written_again_after_a_failed_sync_has_one_end(spool: Spool) -> None:
    kept = intent("a") + intent("b")
    spool.segment(1, kept, outcome("b"))
    spool.segment(2, start(Position(1, len(kept))), outcome("b"))
    recovered = await spool.recover()
    assert recovered.crashed == ["a"]
    assert spool.ends() == {"b": [Outcome.COMPLETED], "a": [Outcome.CRASHED]}


async def test_a_segment_that_was_given_up_with_nothing_in_it_is_removed(spool: Spool) -> None:
    spool.segment(1, intent("a"), outcome("a"))
    spool.segment(2, intent("refused"))
    spool.segment(3, start(Position(1, len(intent("a") + outcome("a")))), intent("b"))
    assert (await spool.recover()).crashed == ["b"]
    assert spool.names() == ["00000001.spool", "00000003.spool", "00000004.spool"]


async def test_a_record_that_cannot_be_read_hides_no_other(spool: Spool) -> None:
    spool.segment(
        1,
        encode(FrameKind.INTENT, b"not json"),
        encode(FrameKind.OUTCOME, b'{"no":"id"}'),
        encode(FrameKind.INTENT, b'{"request_id":"only its id"}'),
        encode(99, b"a newer gateway's"),
        intent("a"),
    )
    recovered = await spool.recover()
    assert recovered == Recovered(
        records=2, crashed=["only its id", "a"], unreadable=2, chain=spool.chain()
    )
    assert spool.names() == ["00000001.spool", "00000002.spool"]


async def test_an_outcome_that_only_a_newer_gateway_knows_is_an_end(spool: Spool) -> None:
    newer = b'{"request_id":"a","outcome":"held","status":"?","more":1}'
    spool.segment(1, intent("a"), encode(FrameKind.OUTCOME, newer))
    assert (await spool.recover()).crashed == []


async def test_an_id_that_no_client_could_send_is_ended_too(spool: Spool) -> None:
    spool.segment(1, intent("\0 \ud800 \U0001f600"))
    await spool.recover()
    cleaned = "\ufffd \ufffd \U0001f600"
    assert read_records(spool.directory).outcomes == {
        cleaned: [crashed_outcome(cleaned, begun(cleaned))]
    }


async def test_thousands_are_ended(spool: Spool) -> None:
    ids = [f"req_{number}" for number in range(3000)]
    spool.segment(1, *map(intent, ids), size_bytes=1024 * 1024)
    assert (await spool.recover()).crashed == ids
    assert spool.ends() == {request_id: [Outcome.CRASHED] for request_id in ids}


@dataclass(slots=True)
class TightDisk(RealDisk):
    """Its segments may take so many bytes together."""

    room_bytes: int

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        taken = sum(other.stat().st_size for other in self.list(path.parent))
        if taken + size_bytes > self.room_bytes:
            raise OSError(errno.ENOSPC, "no room")
        return RealDisk.create_segment(self, path, size_bytes)


async def test_on_a_full_disk_the_room_of_the_reserve_is_used(spool: Spool) -> None:
    spool.segment(1, intent("a"))
    spool.segment(2)
    disk = TightDisk(room_bytes=2 * SIZE_BYTES)
    assert (await spool.recover(disk)).crashed == ["a"]
    assert spool.ends() == {"a": [Outcome.CRASHED]}


async def test_on_a_disk_without_room_it_fails_and_is_done_later(spool: Spool) -> None:
    spool.segment(1, intent("a"), intent("b"))
    with pytest.raises(SpoolUnavailable):
        await spool.recover(TightDisk(room_bytes=SIZE_BYTES))
    assert spool.ends() == {}
    assert (await spool.recover()).crashed == ["a", "b"]
    assert spool.ends() == {"a": [Outcome.CRASHED], "b": [Outcome.CRASHED]}


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC])
async def test_a_segment_that_fails_is_given_up_for_another(
    spool: Spool, operation: Operation
) -> None:
    spool.segment(1, intent("a"), intent("b"))
    disk = FaultyDisk(RealDisk())
    disk.fail(operation, times=1)
    assert (await spool.recover(disk)).crashed == ["a", "b"]
    assert spool.ends() == {"a": [Outcome.CRASHED], "b": [Outcome.CRASHED]}
    assert disk.misused == []


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC, Operation.CREATE])
async def test_a_disk_that_cannot_be_written_is_tried_again_later(
    spool: Spool, operation: Operation
) -> None:
    spool.segment(1, intent("a"))
    disk = FaultyDisk(RealDisk())
    disk.fail(operation)
    with pytest.raises(SpoolUnavailable):
        await spool.recover(disk)
    disk.heal()
    await spool.recover(disk)
    assert spool.ends() == {"a": [Outcome.CRASHED]}


@pytest.mark.parametrize(
    "operation", [Operation.READ, Operation.SYNC_FILE, Operation.SYNC_DIRECTORY]
)
async def test_what_cannot_be_read_or_made_durable_is_not_ended(
    spool: Spool, operation: Operation
) -> None:
    """Its outcome may be there."""
    spool.segment(1, intent("a"), outcome("a"))
    spool.segment(2, intent("b"))
    before = read_segments(spool.directory)
    disk = FaultyDisk(RealDisk())
    disk.fail(operation)
    with pytest.raises(OSError):
        await spool.recover(disk)
    assert read_segments(spool.directory) == before


class OrderedDisk(RealDisk):
    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def sync_file(self, path: Path) -> None:
        self.done.append(("sync", path.name))
        super().sync_file(path)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        data = super().read(path, offset, size)
        self.done.append(("read", path.name))
        return data


async def test_nothing_is_believed_that_a_loss_of_power_could_take_back(spool: Spool) -> None:
    """The dead process had written it, and may not have come to sync it."""
    spool.segment(1, intent("a"), outcome("a"))
    spool.segment(2, intent("b"))
    disk = OrderedDisk()
    await spool.recover(disk)
    for name in ("00000001.spool", "00000002.spool"):
        assert disk.done.index(("sync", name)) < disk.done.index(("read", name))


class HeldDisk(RealDisk):
    """Its first read waits until it is let go."""

    def __init__(self) -> None:
        self.reading = threading.Event()
        self.go = threading.Event()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        self.reading.set()
        assert self.go.wait(30)
        return super().read(path, offset, size)


async def test_one_that_is_cancelled_does_nothing_after_it_has_ended(spool: Spool) -> None:
    """Whoever cancels it lets go of the lock, and another may write there at once."""
    spool.segment(1, intent("a"))
    spool.segment(2)
    before = read_segments(spool.directory)
    disk = HeldDisk()
    recovering = asyncio.ensure_future(spool.recover(disk))
    await asyncio.to_thread(disk.reading.wait)
    recovering.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not recovering.done()  # its thread still reads
    disk.go.set()
    with pytest.raises(asyncio.CancelledError):
        await recovering
    assert read_segments(spool.directory) == before


async def test_one_that_is_cancelled_while_it_writes_has_written_when_it_ends(
    spool: Spool,
) -> None:
    spool.segment(1, intent("a"), intent("b"))
    disk = FaultyDisk(RealDisk())
    with disk.hold_syncs() as waiting:
        recovering = asyncio.ensure_future(spool.recover(disk))
        await asyncio.to_thread(waiting.wait)
        recovering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recovering
    assert spool.ends() == {"a": [Outcome.CRASHED], "b": [Outcome.CRASHED]}
    assert (await spool.recover()).crashed == []
