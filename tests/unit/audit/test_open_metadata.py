"""Requests that go on although they cannot be recorded: told at once, recorded once, later."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.audit.records import Outcome
from app.audit.spool.frames import Frame, FrameKind
from app.protocol.events import TextDelta
from tests.support.conditions import eventually
from tests.support.faulty_disk import Operation
from tests.unit.audit.recordings import HANGING_SECONDS, Desk, desk, outcome

WITHIN_SECONDS = 60.0  # only spent on failure
COUNTER = "gateway_audit_open_metadata_total"


@asynccontextmanager
async def flushing(**given: Any) -> AsyncIterator[Desk]:
    async with desk(**given) as spool:
        running = asyncio.ensure_future(spool.recorder.open_metadata.run())
        try:
            yield spool
        finally:
            running.cancel()


async def serve(spool: Desk, number: int, *, body_bytes: int | None = None) -> None:
    """A whole request of a tenant that may go on."""
    recording = spool.recording(may_go_on=True, body_bytes=body_bytes)
    await recording.begin()
    written = recording.said([TextDelta(0, "an answer")])
    if written is not None:
        await written
    await recording.end(outcome(f"req_{number}"))


async def check_once_each(spool: Desk, requests: int) -> None:
    spool.disk.heal()
    await eventually(lambda: len(spool.outcomes) == requests, WITHIN_SECONDS, "all are recorded")
    await eventually(lambda: not spool.writer.waiting_bytes, WITHIN_SECONDS, "no more comes")
    assert sorted(spool.intents) == sorted(f"req_{number}" for number in range(requests))


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("body_bytes", [None, 100_000], ids=["small", "large"])
async def test_while_the_disk_fails_they_are_told_and_then_recorded_once(
    fault: int, body_bytes: int | None
) -> None:
    async with flushing() as spool:
        spool.disk.fail(Operation.WRITE, fault)
        with capture_logs() as logs:
            for number in range(3):
                await serve(spool, number, body_bytes=body_bytes)
        told = [line for line in logs if line["event"] == "audit_open_metadata"]
        assert [(line["event_kind"], line["record"]["request_id"]) for line in told] == [
            (kind, f"req_{number}") for number in range(3) for kind in ("intent", "outcome")
        ]
        assert "Hello!" not in str(logs)
        assert "an answer" not in str(logs)
        assert spool.counted(COUNTER) == 3
        await check_once_each(spool, 3)
        assert all(ended.content is None for ended in spool.outcomes.values())
        assert b"an answer" not in spool.written


async def test_with_a_disk_that_hangs_no_record_comes_twice() -> None:
    async with flushing(write_seconds=HANGING_SECONDS) as spool:
        with spool.disk.hold_syncs():
            for number in range(3):
                await serve(spool, number)
        await check_once_each(spool, 3)
        assert spool.counted(COUNTER) == 3


async def test_with_a_disk_that_hangs_and_then_fails_no_record_is_lost() -> None:
    async with flushing(write_seconds=HANGING_SECONDS) as spool:
        with spool.disk.hold_syncs():
            for number in range(3):
                await serve(spool, number)
            spool.disk.fail(Operation.SYNC)
        await eventually(lambda: not spool.writer.waiting_bytes, WITHIN_SECONDS, "it has failed")
        await check_once_each(spool, 3)


async def test_with_a_disk_that_hangs_at_the_end_only_no_record_comes_twice() -> None:
    async with flushing(write_seconds=HANGING_SECONDS) as spool:
        recording = spool.recording(may_go_on=True)
        await recording.begin()
        with spool.disk.hold_syncs():
            await recording.end(outcome("req_0"))
            spool.disk.fail(Operation.SYNC)
        await check_once_each(spool, 1)
        assert spool.counted(COUNTER) == 1


async def test_a_disk_that_hangs_on_what_was_kept_gets_it_once() -> None:
    async with flushing(write_seconds=HANGING_SECONDS) as spool:
        spool.disk.fail(Operation.WRITE)
        await serve(spool, 0)
        with spool.disk.hold_syncs() as held:
            spool.disk.heal()
            await asyncio.to_thread(held.wait)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3 * HANGING_SECONDS):  # longer than a write may take
                    await eventually(lambda: False, WITHIN_SECONDS, "never")
        await check_once_each(spool, 1)


async def test_one_that_came_to_no_worker_is_told_and_recorded_too() -> None:
    async with flushing() as spool:
        spool.disk.fail(Operation.WRITE)
        recording = spool.recording(may_go_on=True)
        with capture_logs() as logs:
            await recording.end(outcome("req_0", Outcome.REFUSED))
        assert [line["event_kind"] for line in logs if "event_kind" in line] == [
            "intent",
            "outcome",
        ]
        assert spool.counted(COUNTER) == 1
        await check_once_each(spool, 1)


async def test_a_spool_that_takes_again_at_the_end_has_all_of_it() -> None:
    async with flushing() as spool:
        recording = spool.recording(may_go_on=True)
        spool.disk.fail(Operation.WRITE)
        await recording.begin()
        spool.disk.heal()
        await eventually(lambda: spool.writer.accepting, WITHIN_SECONDS, "it takes work again")
        assert recording.said([TextDelta(0, "an answer" * 20)]) is None
        await recording.end(outcome("req_0"))
        assert spool.chunks == []  # nothing that a recovery could not place
        content = spool.outcomes["req_0"].content
        assert content is not None
        assert spool.text_of(content["answers"]["0"])["content"] == "an answer" * 20


async def test_strict_goes_on_without_text_where_a_piece_cannot_be_kept() -> None:
    async with flushing(strict=True) as spool:
        recording = spool.recording(may_go_on=True)
        await recording.begin()
        spool.disk.fail(Operation.WRITE)
        written = recording.said([TextDelta(0, "an answer")])
        assert written is not None
        await written
        assert recording.said([TextDelta(0, " that goes on")]) is None
        await recording.end(outcome("req_0"))
        await check_once_each(spool, 1)
        assert spool.outcomes["req_0"].content is None


async def test_of_too_many_the_oldest_are_dropped_and_that_is_told() -> None:
    async with desk(max_open_records=2) as spool:
        kept = spool.recorder.open_metadata
        with capture_logs() as logs:
            for number in range(3):
                kept.keep([Frame(FrameKind.INTENT, b"%d" % number)])
        assert [line["event"] for line in logs] == ["audit_open_metadata_dropped"]
        kept.close()
        await eventually(lambda: not spool.writer.waiting_bytes, WITHIN_SECONDS, "written")
        assert [frame.payload for frame in spool.frames] == [b"1", b"2"]


async def test_what_waits_at_the_end_of_the_process_is_written_or_told() -> None:
    async with desk() as spool:
        kept = spool.recorder.open_metadata
        spool.disk.fail(Operation.WRITE)
        await serve(spool, 0)
        with capture_logs() as logs:
            kept.close()
        assert [line["event"] for line in logs] == ["audit_open_metadata_lost"]
        spool.disk.heal()
        await eventually(lambda: spool.writer.accepting, WITHIN_SECONDS, "it takes work again")
        kept.close()
        await check_once_each(spool, 1)
