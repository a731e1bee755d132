"""The spool's writer on disks that fill and fail: what was acknowledged stays, what is not refused
is written, no file is trusted again, and work is taken again once the disk is back."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from app.audit.spool.disk import Disk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.segments import Position
from app.audit.spool.writer import Reason, SpoolUnavailable, SpoolWriter
from tests.support.faulty_disk import GATE_SECONDS, FaultyDisk, Operation
from tests.support.memory_disk import MemoryDisk
from tests.support.spool_reading import payloads, read_segment, read_spool

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 4096
WRITER = "ab" * 16
FOUR_TO_A_SEGMENT = b"." * 800


class Clock:
    """Stands still until a test moves it: nothing is tried again before."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._looked_at = threading.Semaphore(0)

    def __call__(self) -> float:
        self._looked_at.release()
        return self.seconds

    def forget_looks(self) -> None:
        while self._looked_at.acquire(blocking=False):
            pass

    async def be_looked_at(self) -> None:
        """Until the writer's thread has seen what was appended since `forget_looks`, and let it
        lie: it looks once before that, and once after."""
        for _ in range(2):
            assert await asyncio.to_thread(self._looked_at.acquire, timeout=GATE_SECONDS)


def frame(payload: bytes) -> Frame:
    return Frame(FrameKind.INTENT, payload)


def spool_writer(disk: Disk, clock: Clock | None = None, *, reserve: int = 1) -> SpoolWriter:
    """Tries again at once, or where the clock is a test's own 60 s later by it."""
    return SpoolWriter(
        DIRECTORY,
        disk,
        writer=WRITER,
        segment_bytes=SEGMENT_BYTES,
        reserve_segments=reserve,
        retry_seconds=0.0 if clock is None else 60.0,
        **({} if clock is None else {"clock": clock}),
    )


async def refusal(writer: SpoolWriter, payload: bytes, *, essential: bool = False) -> Reason:
    with pytest.raises(SpoolUnavailable) as refused:
        await writer.append([frame(payload)], essential=essential)
    return refused.value.reason


async def until_accepting(writer: SpoolWriter) -> None:
    async with asyncio.timeout(30):
        while not writer.accepting:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC])
async def test_what_failed_is_written_again_to_a_new_segment(operation: Operation) -> None:
    disk = FaultyDisk()
    writer = spool_writer(disk)
    await writer.append([frame(b"one")])
    disk.fail(operation, times=1)
    await writer.append([frame(b"two")])
    await writer.append([frame(b"three")])

    assert writer.accepting
    assert payloads(read_segment(disk, DIRECTORY, 1, writer.durable_end(1))) == [b"one"]
    assert payloads(read_segment(disk, DIRECTORY, 2)) == [b"two", b"three"]
    frames = read_segment(disk, DIRECTORY, 2)
    assert writer.committed == Position(2, sum(frame.size_bytes for frame in frames))
    await writer.close()
    assert disk.misused == []


async def test_a_first_sync_that_fails_leaves_no_segment() -> None:
    disk = FaultyDisk()
    disk.fail(Operation.SYNC, times=1)
    writer = spool_writer(disk)
    await writer.append([frame(b"one")])
    assert [path.name for path in disk.list(DIRECTORY)] == ["00000002.spool", "00000003.spool"]
    assert writer.durable_end(1) == 0
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one"]
    await writer.close()


async def test_a_second_failure_refuses_all_who_wait() -> None:
    disk = FaultyDisk()
    writer = spool_writer(disk)
    await writer.append([frame(b"one")])
    disk.fail(Operation.SYNC)
    with disk.hold_syncs() as at_sync:
        first = asyncio.ensure_future(writer.append([frame(b"two")]))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        rest = [
            asyncio.ensure_future(writer.append([frame(b"%d" % number)], essential=number % 2 == 0))
            for number in range(10)
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [str(result) for result in results] == [Reason.DISK_FAILED] * 11
    disk.heal()
    await writer.close()
    assert disk.misused == []


async def test_work_that_came_while_the_disk_failed_does_not_wait_for_the_next_try() -> None:
    disk, clock = FaultyDisk(), Clock()
    writer = spool_writer(disk, clock)
    disk.fail(Operation.SYNC)
    with disk.hold_syncs() as at_sync:
        first = asyncio.ensure_future(writer.append([frame(b"one")]))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        second = asyncio.ensure_future(writer.append([frame(b"two")]))
        outcome = asyncio.ensure_future(writer.append([frame(b"outcome")], essential=True))
        await asyncio.sleep(0)
    async with asyncio.timeout(GATE_SECONDS):
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [str(result) for result in results] == [Reason.DISK_FAILED] * 2
    assert not outcome.done()
    disk.heal()
    await writer.close()
    await outcome
    assert payloads(read_spool(disk, DIRECTORY)) == [b"outcome"]


async def test_what_is_refused_while_the_disk_fails_does_not_ask_it() -> None:
    disk = FaultyDisk()
    writer = spool_writer(disk, Clock())
    disk.fail(Operation.SYNC)
    assert await refusal(writer, b"one") is Reason.DISK_FAILED
    assert not writer.accepting
    counts = dict(disk.counts)
    assert await refusal(writer, b"two") is Reason.DISK_FAILED
    assert disk.counts == counts
    await writer.close()


async def test_it_is_tried_again_after_the_retry_time_and_not_before() -> None:
    disk, clock = FaultyDisk(), Clock()
    writer = spool_writer(disk, clock)
    disk.fail(Operation.WRITE)
    assert await refusal(writer, b"one") is Reason.DISK_FAILED
    disk.heal()
    counts = dict(disk.counts)
    clock.forget_looks()
    outcome = asyncio.ensure_future(writer.append([frame(b"outcome one")], essential=True))
    await asyncio.sleep(0)
    await clock.be_looked_at()
    assert await refusal(writer, b"two") is Reason.DISK_FAILED
    assert disk.counts == counts
    assert not outcome.done()

    clock.seconds += 60.0
    await writer.append([frame(b"outcome two")], essential=True)
    await outcome
    await until_accepting(writer)
    await writer.append([frame(b"three")])
    assert payloads(read_spool(disk, DIRECTORY)) == [b"outcome one", b"outcome two", b"three"]
    await writer.close()


async def test_an_outcome_that_could_not_be_written_is_written_once_it_can_be() -> None:
    """Its waiter was told that it was not; the request has its end in the log nevertheless."""
    disk = FaultyDisk()
    writer = spool_writer(disk)
    disk.fail(Operation.SYNC)
    assert await refusal(writer, b"intent") is Reason.DISK_FAILED
    assert await refusal(writer, b"outcome", essential=True) is Reason.DISK_FAILED
    assert writer.waiting_bytes == frame(b"outcome").size_bytes
    disk.heal()
    await until_accepting(writer)
    assert payloads(read_spool(disk, DIRECTORY)) == [b"outcome"]
    await asyncio.sleep(0)
    assert writer.waiting_bytes == 0
    await writer.close()
    assert disk.misused == []


async def test_a_disk_that_is_back_is_noticed_without_an_append() -> None:
    """A gateway that is not ready gets no request that would make it look."""
    disk = FaultyDisk()
    writer = spool_writer(disk)
    disk.fail(Operation.WRITE)
    disk.fail(Operation.CREATE)
    assert await refusal(writer, b"one") is Reason.DISK_FAILED
    disk.heal()
    await until_accepting(writer)
    await writer.append([frame(b"two")])
    assert payloads(read_spool(disk, DIRECTORY)) == [b"two"]
    await writer.close()


async def test_a_full_disk_refuses_new_work_and_lets_running_work_end() -> None:
    clock = Clock()
    disk = FaultyDisk(MemoryDisk(capacity_bytes=2 * SEGMENT_BYTES))
    writer = spool_writer(disk, clock)
    for number in range(4):
        await writer.append([frame(b"%d" % number + FOUR_TO_A_SEGMENT)])
    assert writer.accepting  # there is one in reserve
    assert await refusal(writer, b"4" + FOUR_TO_A_SEGMENT) is Reason.DISK_FULL
    assert not writer.accepting
    for number in range(5, 9):
        await writer.append([frame(b"%d" % number + FOUR_TO_A_SEGMENT)], essential=True)
    assert await refusal(writer, b"9") is Reason.DISK_FULL

    assert [payload[:1] for payload in payloads(read_spool(disk, DIRECTORY))] == [
        b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"8",
    ]  # fmt: skip
    await writer.close()


async def test_room_is_noticed_without_an_append() -> None:
    memory = MemoryDisk(capacity_bytes=2 * SEGMENT_BYTES)
    writer = spool_writer(memory)
    for number in range(4):
        await writer.append([frame(b"%d" % number + FOUR_TO_A_SEGMENT)])
    assert await refusal(writer, b"4" + FOUR_TO_A_SEGMENT) is Reason.DISK_FULL
    memory.capacity_bytes += SEGMENT_BYTES
    await until_accepting(writer)
    await writer.append([frame(b"5" + FOUR_TO_A_SEGMENT)])
    await writer.close()


async def test_a_full_reserve_refuses_even_outcomes_and_keeps_them() -> None:
    clock = Clock()
    disk = FaultyDisk(memory := MemoryDisk(capacity_bytes=SEGMENT_BYTES))
    writer = spool_writer(disk, clock)
    records = [b"%d" % number + FOUR_TO_A_SEGMENT for number in range(6)]
    for record in records[:4]:
        await writer.append([frame(record)], essential=True)
    assert await refusal(writer, records[4], essential=True) is Reason.DISK_FULL
    memory.capacity_bytes += 2 * SEGMENT_BYTES
    clock.seconds += 60.0
    await writer.append([frame(records[5])], essential=True)
    assert payloads(read_spool(disk, DIRECTORY)) == records
    await until_accepting(writer)
    await writer.close()
    assert disk.misused == []


async def test_a_disk_that_is_full_at_the_start_takes_outcomes_only() -> None:
    disk = FaultyDisk(MemoryDisk(capacity_bytes=SEGMENT_BYTES))
    writer = spool_writer(disk, Clock())
    await writer.append([frame(b"outcome")], essential=True)
    assert await refusal(writer, b"intent") is Reason.DISK_FULL
    assert payloads(read_spool(disk, DIRECTORY)) == [b"outcome"]
    await writer.close()


@pytest.mark.parametrize("reserve", [0, 1])
async def test_a_disk_without_any_room_takes_nothing(reserve: int) -> None:
    writer = spool_writer(MemoryDisk(capacity_bytes=0), Clock(), reserve=reserve)
    assert await refusal(writer, b"outcome", essential=True) is Reason.DISK_FULL
    assert await refusal(writer, b"intent") is Reason.DISK_FULL
    await writer.close()


@pytest.mark.parametrize("reserve", [0, 1])
async def test_a_quota_is_a_full_disk_and_a_broken_one_is_not(reserve: int) -> None:
    disk = FaultyDisk()
    disk.fail(Operation.CREATE, errno.EDQUOT)
    writer = spool_writer(disk, Clock(), reserve=reserve)
    assert await refusal(writer, b"one", essential=True) is Reason.DISK_FULL
    await writer.close()
    disk.fail(Operation.CREATE, errno.EROFS)
    writer = spool_writer(disk, Clock(), reserve=reserve)
    assert await refusal(writer, b"one", essential=True) is Reason.DISK_FAILED
    await writer.close()


async def test_a_segment_whose_name_is_not_durable_is_not_written() -> None:
    disk = FaultyDisk()
    disk.fail(Operation.SYNC_DIRECTORY, times=1)
    writer = spool_writer(disk)
    await writer.append([frame(b"one")], essential=True)
    await until_accepting(writer)
    assert [path.name for path in disk.list(DIRECTORY)] == ["00000002.spool", "00000003.spool"]
    await writer.close()


async def test_a_cancelled_waiters_record_is_written_after_a_failure_too() -> None:
    disk = FaultyDisk()
    writer = spool_writer(disk)
    await writer.append([frame(b"one")])
    disk.fail(Operation.SYNC, times=1)
    with disk.hold_syncs() as at_sync:
        second = asyncio.ensure_future(writer.append([frame(b"two")]))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    await writer.append([frame(b"three")])
    assert payloads(read_segment(disk, DIRECTORY, 2)) == [b"two", b"three"]
    await writer.close()


async def test_close_tries_once_more_and_then_ends() -> None:
    disk, clock = FaultyDisk(), Clock()
    writer = spool_writer(disk, clock)
    disk.fail(Operation.SYNC)
    assert await refusal(writer, b"outcome", essential=True) is Reason.DISK_FAILED
    disk.heal()
    await writer.close()
    assert payloads(read_spool(disk, DIRECTORY)) == [b"outcome"]

    writer = spool_writer(disk, clock)
    disk.fail(Operation.SYNC)
    append = asyncio.ensure_future(writer.append([frame(b"two")], essential=True))
    await asyncio.sleep(0)
    await writer.close()
    with pytest.raises(SpoolUnavailable):
        await append
    assert writer.waiting_bytes == 0
    assert disk.misused == []
