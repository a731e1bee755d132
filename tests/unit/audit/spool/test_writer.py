"""The spool's writer: what it acknowledges is on the disk, few syncs are enough for many, and it
says what it goes on from."""

import asyncio
from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path

import pytest

from app.audit.chain import GENESIS
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.segments import Position, list_segments, segment_path
from app.audit.spool.writer import Reason, SpoolUnavailable, SpoolWriter
from tests.support.faulty_disk import GATE_SECONDS, FaultyDisk, Operation
from tests.support.spool_reading import payloads, read_segment, read_spool

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 4096
FOUR_TO_A_SEGMENT = b"." * 800
WRITER = "ab" * 16


def frame(payload: bytes) -> Frame:
    return Frame(FrameKind.INTENT, payload)


def start_bytes(disk: Disk, number: int) -> int:
    """Of the first frame of that segment, which says how it follows the one before."""
    first = read_segment(disk, DIRECTORY, number)[0]
    assert first.kind == FrameKind.SEGMENT
    return first.size_bytes


def numbered(count: int) -> list[bytes]:
    return [b"record %d" % number for number in range(count)]


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def writer(disk: FaultyDisk) -> AsyncIterator[SpoolWriter]:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    yield writer
    await writer.close()
    assert disk.misused == []


async def test_what_is_appended_is_on_the_disk(writer: SpoolWriter, disk: FaultyDisk) -> None:
    await writer.append([frame(b"one")])
    await writer.append([frame(b"two")], essential=True)
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", b"two"]


async def test_nothing_is_acknowledged_before_its_sync(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    with disk.hold_syncs() as at_sync:
        append = asyncio.ensure_future(writer.append([frame(b"one")]))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        await asyncio.sleep(0)
        assert not append.done()
        assert writer.committed == Position(1, 0)
        assert writer.durable_end(1) == 0
        assert writer.chain == GENESIS
        assert writer.waiting_bytes == frame(b"one").size_bytes
    await append
    end = start_bytes(disk, 1) + frame(b"one").size_bytes
    assert writer.committed == Position(1, end)
    assert writer.durable_end(1) == end
    assert writer.waiting_bytes == 0


async def test_many_appends_take_few_syncs(disk: FaultyDisk) -> None:
    """All that comes while one sync goes on shares the next."""
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=1024 * 1024)
    records = numbered(1001)
    with disk.hold_syncs() as at_sync:
        first = asyncio.ensure_future(writer.append([frame(records[0])]))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        rest = [asyncio.ensure_future(writer.append([frame(record)])) for record in records[1:]]
        await asyncio.sleep(0)
    await asyncio.gather(first, *rest)
    assert disk.counts[Operation.SYNC] == 2
    assert disk.counts[Operation.WRITE] == 2
    assert payloads(read_spool(disk, DIRECTORY)) == records
    await writer.close()


async def test_a_cancelled_waiters_record_is_written(writer: SpoolWriter, disk: FaultyDisk) -> None:
    with disk.hold_syncs() as at_sync:
        first = asyncio.ensure_future(writer.append([frame(b"one")]))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        second = asyncio.ensure_future(writer.append([frame(b"two")]))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(asyncio.CancelledError):
            await second
    await writer.append([frame(b"three")])
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", b"two", b"three"]
    assert writer.waiting_bytes == 0


async def test_segments_are_rolled_and_each_is_read_by_itself(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    records = [b"%04d" % number + FOUR_TO_A_SEGMENT for number in range(10)]
    for record in records:
        await writer.append([frame(record)])
    assert payloads(read_spool(disk, DIRECTORY)) == records
    # Four to a segment, and one segment in reserve.
    assert [path.name for path in disk.list(DIRECTORY)] == [
        "00000001.spool", "00000002.spool", "00000003.spool", "00000004.spool",
    ]  # fmt: skip
    size = frame(records[0]).size_bytes
    ends = [start_bytes(disk, number) + 4 * size for number in (1, 2)]
    ends.append(start_bytes(disk, 3) + 2 * size)
    assert writer.committed == Position(3, ends[-1])
    assert [writer.durable_end(number) for number in (1, 2, 3, 4)] == [*ends, 0]
    assert payloads(read_segment(disk, DIRECTORY, 2)) == records[4:8]


async def test_a_group_goes_on_in_the_next_segment(disk: FaultyDisk) -> None:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    records = [b"%04d" % number + FOUR_TO_A_SEGMENT for number in range(40)]
    with disk.hold_syncs() as at_sync:
        appends = [asyncio.ensure_future(writer.append([frame(record)])) for record in records]
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
    await asyncio.gather(*appends)
    assert payloads(read_spool(disk, DIRECTORY)) == records
    await writer.close()


async def test_what_is_no_frame_of_a_callers_is_an_error(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    for frames in ([], [frame(b"one"), Frame(0, b"")], [Frame(FrameKind.SEGMENT, b"{}")]):
        with pytest.raises(ValueError, match=r"frame|segment"):
            writer.submit(frames)
    assert writer.waiting_bytes == 0
    await writer.append([frame(b"one")])
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one"]


async def test_frames_of_one_append_stand_together(disk: FaultyDisk) -> None:
    """Wherever the others leave off."""
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    together = [
        [b"%d %d" % (number, part) + b"." * 400 for part in range(3)] for number in range(9)
    ]
    with disk.hold_syncs() as at_sync:
        appends = [
            asyncio.ensure_future(writer.append([frame(part) for part in parts]))
            for parts in together
        ]
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
    await asyncio.gather(*appends)
    segments = [
        payloads(read_segment(disk, DIRECTORY, number)) for number in list_segments(disk, DIRECTORY)
    ]
    assert [*chain(*segments)] == [*chain(*together)]
    assert all(len(segment) % 3 == 0 for segment in segments)
    await writer.close()


async def test_what_is_submitted_is_written_without_anybody_waiting(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    durable = writer.submit([frame(b"one")])
    await writer.append([frame(b"two")])
    assert durable.done()
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", b"two"]


async def test_a_submission_that_is_refused_says_so_at_once(disk: FaultyDisk) -> None:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    await writer.close()
    with pytest.raises(SpoolUnavailable):
        writer.submit([frame(b"one")], essential=True)


async def test_a_segments_name_is_durable_before_it_is_written(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    await writer.append([frame(b"one")])
    assert disk.counts[Operation.SYNC_DIRECTORY] == disk.counts[Operation.CREATE] == 2


async def test_the_shipper_is_woken_by_every_commit(writer: SpoolWriter) -> None:
    for _ in range(3):
        writer.advanced.clear()
        await writer.append([frame(b"one")])
        assert writer.advanced.is_set()


async def test_segments_of_a_writer_before_are_left_alone(disk: FaultyDisk) -> None:
    earlier = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    await earlier.append([frame(b"one")])
    await earlier.close()
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    assert writer.committed == Position(2, 0)
    await writer.append([frame(b"two")])
    assert writer.durable_end(1) is None
    assert payloads(read_segment(disk, DIRECTORY, 1)) == [b"one"]
    assert payloads(read_segment(disk, DIRECTORY, 2)) == [b"two"]
    await writer.close()


async def test_what_waits_is_bounded(disk: FaultyDisk) -> None:
    one = frame(b"." * 83)  # 100 bytes
    writer = SpoolWriter(
        DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES, queue_bytes=250
    )
    with disk.hold_syncs() as at_sync:
        appends = [asyncio.ensure_future(writer.append([one])) for _ in range(2)]
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        with pytest.raises(SpoolUnavailable) as refused:
            await writer.append([one])
        assert refused.value.reason is Reason.QUEUE_FULL
        assert writer.accepting  # it is only slow
        appends += [asyncio.ensure_future(writer.append([one], essential=True)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(SpoolUnavailable):
            await writer.append([one], essential=True)
    await asyncio.gather(*appends)
    await writer.append([one])
    await writer.close()


async def test_close_writes_what_waits_and_leaves_no_empty_segment(disk: FaultyDisk) -> None:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    appends = [asyncio.ensure_future(writer.append([frame(record)])) for record in numbered(20)]
    await asyncio.sleep(0)
    await writer.close()
    assert all(append.done() for append in appends)
    await asyncio.gather(*appends)
    assert payloads(read_spool(disk, DIRECTORY)) == numbered(20)
    assert [path.name for path in disk.list(DIRECTORY)] == ["00000001.spool"]


async def test_nothing_is_taken_after_close(disk: FaultyDisk) -> None:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    await writer.close()
    await writer.close()
    assert not writer.accepting
    with pytest.raises(SpoolUnavailable) as refused:
        await writer.append([frame(b"one")], essential=True)
    assert refused.value.reason is Reason.CLOSED
    assert disk.list(DIRECTORY) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_a_thread_that_died_of_a_defect() -> None:
    class BrokenDisk(FaultyDisk):
        def sync_directory(self, path: Path) -> None:
            raise ZeroDivisionError

    writer = SpoolWriter(DIRECTORY, BrokenDisk(), writer=WRITER, segment_bytes=SEGMENT_BYTES)
    for _ in range(2):
        with pytest.raises(SpoolUnavailable) as refused:
            await writer.append([frame(b"one")], essential=True)
        assert refused.value.reason is Reason.CLOSED
    assert not writer.accepting
    await writer.close()


async def test_it_works_on_a_real_disk(tmp_path: Path) -> None:
    disk = RealDisk()
    writer = SpoolWriter(tmp_path, disk, writer=WRITER, segment_bytes=64 * 1024)
    records = [b"%04d" % number + b"." * 1000 for number in range(300)]
    await asyncio.gather(*(writer.append([frame(record)]) for record in records))
    assert payloads(read_spool(disk, tmp_path)) == records
    assert segment_path(tmp_path, 1).stat().st_size == 64 * 1024
    await writer.close()
    assert payloads(read_spool(disk, tmp_path)) == records
