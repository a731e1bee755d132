"""Appends that are larger than a segment: each gets one of its own size."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.audit.spool.frames import MAX_PAYLOAD_BYTES, Frame, FrameKind
from app.audit.spool.writer import Reason, SpoolUnavailable, SpoolWriter
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.memory_disk import MemoryDisk
from tests.support.spool_reading import chain_of, payloads, read_spool

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 4096
FILLER = b"." * 800  # four to a segment
WRITER = "ab" * 16
LARGE = b"." * (2 * SEGMENT_BYTES)


def frame(payload: bytes) -> Frame:
    return Frame(FrameKind.INTENT, payload)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def writer(disk: FaultyDisk) -> AsyncIterator[SpoolWriter]:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    yield writer
    await writer.close()
    assert disk.misused == []


@pytest.mark.parametrize("size", [SEGMENT_BYTES - 600, SEGMENT_BYTES, 3 * SEGMENT_BYTES, 400_000])
async def test_what_is_larger_than_a_segment_gets_one_of_its_own_size(
    writer: SpoolWriter, disk: FaultyDisk, size: int
) -> None:
    large = bytes(range(256)) * (size // 256 + 1)
    for record in (b"one", large, b"two", large, large, b"three"):
        await writer.append([frame(record)])
    records = [b"one", large, b"two", large, large, b"three"]
    assert payloads(read_spool(disk, DIRECTORY)) == records
    assert chain_of(read_spool(disk, DIRECTORY))[-1] == writer.chain
    await writer.close()
    assert payloads(read_spool(disk, DIRECTORY)) == records


async def test_the_largest_frame_goes_through_the_smallest_segments(disk: FaultyDisk) -> None:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=1024 * 1024)
    largest = bytes(MAX_PAYLOAD_BYTES)
    await writer.append([frame(b"one"), frame(largest), frame(b"two")])
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", largest, b"two"]
    with pytest.raises(ValueError, match="are allowed"):
        await writer.append([frame(b"three"), frame(largest + b".")])
    assert writer.waiting_bytes == 0
    await writer.close()


async def test_on_a_full_disk_it_is_refused_and_the_reserve_is_kept() -> None:
    memory = MemoryDisk(capacity_bytes=2 * SEGMENT_BYTES)
    disk = FaultyDisk(memory)
    writer = SpoolWriter(
        DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES, retry_seconds=0.0
    )
    await writer.append([frame(b"one")])
    with pytest.raises(SpoolUnavailable) as refused:
        await writer.append([frame(LARGE)])
    assert refused.value.reason is Reason.DISK_FULL
    records = [b"%d" % number + FILLER for number in range(7)]
    for record in records:
        await writer.append([frame(record)], essential=True)
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", *records]
    await writer.close()


async def test_one_that_has_no_room_keeps_no_other_from_the_reserve() -> None:
    memory = MemoryDisk(capacity_bytes=2 * SEGMENT_BYTES)
    disk = FaultyDisk(memory)
    writer = SpoolWriter(
        DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES, retry_seconds=0.0
    )
    await writer.append([frame(b"one")])
    with pytest.raises(SpoolUnavailable):
        await writer.append([frame(LARGE)], essential=True)
    await writer.append([frame(b"two")], essential=True)
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", b"two"]
    memory.capacity_bytes += 2 * len(LARGE)
    await writer.close()
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", b"two", LARGE]


@pytest.mark.parametrize("operation", [Operation.RENAME, Operation.CREATE, Operation.WRITE])
async def test_a_disk_that_fails_leaves_segments_in_their_order(operation: Operation) -> None:
    disk = FaultyDisk()
    writer = SpoolWriter(
        DIRECTORY,
        disk,
        writer=WRITER,
        segment_bytes=SEGMENT_BYTES,
        reserve_segments=2,
        retry_seconds=0.0,
    )
    await writer.append([frame(b"one")])
    disk.fail(operation, errno.EIO, times=1)
    with suppress(SpoolUnavailable):  # the disk fails, as it was told to
        await writer.append([frame(LARGE)], essential=True)
    records = [b"%d" % number + FILLER for number in range(12)]
    for record in records:
        await writer.append([frame(record)], essential=True)
    await writer.close()
    kept = payloads(read_spool(disk, DIRECTORY))
    assert kept.count(LARGE) == 1  # wherever: it may have waited for its segment
    assert [record for record in kept if record != LARGE] == [b"one", *records]
    assert chain_of(read_spool(disk, DIRECTORY))[-1] == writer.chain
    assert disk.misused == []


class SecondRenameFails(FaultyDisk):
    def rename(self, path: Path, new_path: Path) -> None:
        if self.counts[Operation.RENAME] == 1:
            self.fail(Operation.RENAME, times=1)
        super().rename(path, new_path)


async def test_a_reserve_that_is_renamed_in_part_is_used_in_its_order() -> None:
    disk = SecondRenameFails()
    writer = SpoolWriter(
        DIRECTORY,
        disk,
        writer=WRITER,
        segment_bytes=SEGMENT_BYTES,
        reserve_segments=2,
        retry_seconds=60.0,  # the reserve is used as it is
    )
    await writer.append([frame(b"one")])
    with pytest.raises(SpoolUnavailable):
        await writer.append([frame(LARGE)])
    records = [b"%d" % number + FILLER for number in range(10)]
    writes = [writer.submit([frame(record)], essential=True) for record in records]
    await writer.close()
    await asyncio.gather(*writes)
    assert payloads(read_spool(disk, DIRECTORY)) == [b"one", *records]
    assert chain_of(read_spool(disk, DIRECTORY))[-1] == writer.chain
