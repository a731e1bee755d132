"""Which segments stay: those that are not shipped, and those that a recovery would need."""

import errno
import time
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.spool.backlog import MAX_OPEN_SECONDS
from app.audit.spool.disk import RealDisk
from tests.integration.audit.logged import NOW, eventually, rows
from tests.integration.audit.spool.spooling import (
    intent,
    outcome,
    outcomes,
    requests,
    spooling,
)
from tests.support.faulty_disk import FaultyDisk, Operation

SEGMENT_BYTES = 2048


async def test_a_segment_goes_when_it_is_shipped_whole(root: Path, engine: AsyncEngine) -> None:
    async with spooling(root, engine, segment_bytes=SEGMENT_BYTES, ship=False) as unshipped:
        await unshipped.append(*requests(50))
        many = len(unshipped.segments)
    async with spooling(root, engine, segment_bytes=SEGMENT_BYTES) as process:
        await process.append(*requests(50))
        await eventually(lambda: not unshipped.own.path.exists())
        await eventually(lambda: len(process.segments) <= 2)  # the one in use, and the reserve
    assert many > 10


async def test_segments_from_an_intent_without_outcome_on_are_kept(
    root: Path, engine: AsyncEngine
) -> None:
    """With the intent gone, or with it there and outcomes gone, a recovery would err."""
    async with spooling(root, engine, segment_bytes=SEGMENT_BYTES) as process:
        await process.append(*requests(20))
        await process.append(intent("req_long"))
        begun = f"{process.writer.committed.segment:08}"
        await process.append(*requests(20))
        await eventually(lambda: process.written == 81)
        await eventually(lambda: process.segments[0] == begun)
        assert len(process.segments) > 5
        await process.append(outcome("req_long"))
        await eventually(lambda: len(process.segments) <= 2)


async def test_no_request_is_ended_twice_whenever_its_process_dies(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, segment_bytes=SEGMENT_BYTES) as process:
        await process.append(intent("req_long"), *requests(30), intent("req_other"))
        await eventually(lambda: process.written == 62)
        await process.append(outcome("req_other"))
        await eventually(lambda: process.written == 63)
    async with spooling(root, engine):
        await eventually(lambda: not process.own.path.exists())
    found = await outcomes(engine)
    assert found.pop("req_long") == "crashed"
    assert set(found.values()) == {"completed"}


async def test_an_intent_that_was_read_before_any_request_began_keeps_nothing(
    root: Path, engine: AsyncEngine
) -> None:
    passed = 0.0
    async with spooling(
        root, engine, segment_bytes=SEGMENT_BYTES, clock=lambda: time.monotonic() + passed
    ) as process:
        with capture_logs() as logs:
            await process.append(intent("req_lost"))
            await process.append(*requests(30))
            await eventually(lambda: process.written == 61)
            assert len(process.segments) > 5
            passed = MAX_OPEN_SECONDS
            await process.append(*requests(1, "later"))
            await eventually(lambda: len(process.segments) <= 2)
    assert [(line["event"], line["request_id"]) for line in logs] == [
        ("audit_intent_without_outcome", "req_lost")
    ]


async def test_a_date_that_jumps_ends_no_request(root: Path, engine: AsyncEngine) -> None:
    """Neither does a client's, which is where a request's date comes from."""
    async with spooling(root, engine, segment_bytes=SEGMENT_BYTES) as process:
        await process.append(intent("req_old", received_at=NOW - 10 * MAX_OPEN_SECONDS))
        begun = process.segments[0]
        await process.append(*requests(30))
        await eventually(lambda: process.written == 61)
        await process.append(*requests(1, "later"))
        await eventually(lambda: process.written == 63)
        assert process.segments[0] == begun


async def test_a_disk_that_cannot_be_read_for_a_while_loses_nothing(
    root: Path, engine: AsyncEngine
) -> None:
    disk = FaultyDisk(RealDisk())
    async with spooling(root, engine, disk=disk) as process:
        await process.append(*requests(2))
        await eventually(lambda: process.written == 4)
        with capture_logs() as logs:
            disk.fail(Operation.READ, errno.EIO)
            await process.append(intent("req_a"))
            await eventually(lambda: bool(logs))
            disk.heal()
            await process.append(intent("req_b"))
            await eventually(lambda: process.written == 6)
    assert [line["event"] for line in logs] == ["audit_spool_unreadable"]
    assert len(await rows(engine)) == 4


async def test_frames_that_were_written_again_after_a_failed_sync_are_shipped_once(
    root: Path, engine: AsyncEngine
) -> None:
    disk = FaultyDisk(RealDisk())
    async with spooling(root, engine, disk=disk) as process:
        await process.append(*requests(2))
        await eventually(lambda: process.written == 4)
        disk.fail(Operation.SYNC, errno.EIO, times=1)
        await process.append(intent("req_a"), intent("req_b"))
        await eventually(lambda: process.written == 6)
        assert process.writer.committed.segment > 1
        await process.append(outcome("req_a"), outcome("req_b"))
        await eventually(lambda: process.written == 8)
        await eventually(lambda: "00000001" not in process.segments)
    assert len(await rows(engine)) == 4
