"""From the spool into Postgres, while nothing fails."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.spool import shipper
from app.audit.spool.backlog import MAX_BATCH_RECORDS
from app.audit.spool.cursor import WriterGone
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.payloads import ChunkPayload, encode_chunk
from app.audit.spool.shipment import Shipment
from app.store.database import create_engine
from app.telemetry.metrics import Metrics
from tests.integration.audit.logged import INTENT, OUTCOME, WHOLE, eventually, of, rows
from tests.integration.audit.spool.spooling import (
    DEADLINE_SECONDS,
    intent,
    outcome,
    outcomes,
    query,
    requests,
    spooling,
    times_written,
)


async def test_a_request_becomes_one_row_with_all_its_fields(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine) as process:
        await process.append(INTENT)
        await eventually(lambda: process.written == 1)
        (row,) = await rows(engine)
        assert (row["request_id"], row["outcome"]) == ("req_1", None)
        await process.append(OUTCOME)
        await eventually(lambda: process.written == 2)
        assert await rows(engine) == [WHOLE]
        await eventually(lambda: process.figures == (0, 0, 0))


HOSTILE = "a\x00b\ud800c\\u0000d\udfff"
CLEANED = "a\ufffdb\ufffdc\\u0000d\ufffd"


async def test_nul_and_lone_surrogates_reach_the_table_as_replacements(
    root: Path, engine: AsyncEngine
) -> None:
    hostile, refused = of("req_b", user_agent=HOSTILE, model=HOSTILE, parameters={HOSTILE: 2**80})
    async with spooling(root, engine) as process:
        with capture_logs() as logs:
            await process.append(intent("req_a"), hostile, refused, intent("req_c"))
            await eventually(lambda: process.written == 4)
    first, row, last = await rows(engine)
    assert (first["request_id"], last["request_id"]) == ("req_a", "req_c")
    assert row["user_agent"] == row["model"] == CLEANED
    assert row["parameters"] == {CLEANED: str(2**80)}
    assert (logs, process.set_aside) == ([], 0)


async def test_a_long_spool_goes_in_whole_batches(root: Path, engine: AsyncEngine) -> None:
    commits: list[object] = []
    async with spooling(root, engine, ship=False) as process:
        await process.append(*requests(MAX_BATCH_RECORDS + 1))
        event.listen(engine.sync_engine, "commit", commits.append)
        assert await process.drain()
    assert len(commits) == 4  # the third with two records, and the end of the spool's own row
    assert set((await outcomes(engine)).values()) == {"completed"}
    assert len(await rows(engine)) == MAX_BATCH_RECORDS + 1
    assert process.written == 2 * (MAX_BATCH_RECORDS + 1)


async def test_a_process_that_ends_well_leaves_nothing_behind(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, ship=False) as process:
        await process.append(INTENT, OUTCOME)
        assert await process.drain()
        assert not process.own.path.exists()
    assert await query(engine, "SELECT writer FROM audit_spool_offsets") == []
    assert await rows(engine) == [WHOLE]


async def test_what_a_dead_process_left_is_ended_and_shipped_by_the_next(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine) as dead:
        await dead.append(intent("req_shipped"))
        await eventually(lambda: dead.written == 1)
    async with spooling(root, engine, ship=False) as dead_unheard:
        await dead_unheard.append(intent("req_running"), *requests(2))
    async with spooling(root, engine) as process:
        await eventually(lambda: not dead.own.path.exists())
        await eventually(lambda: not dead_unheard.own.path.exists())
        assert await outcomes(engine) == {
            "req_shipped": "crashed",
            "req_running": "crashed",
            "req_00000": "completed",
            "req_00001": "completed",
        }
        assert await query(engine, "SELECT writer FROM audit_spool_offsets") == []
        assert process.written == 1 + 6


async def test_a_request_that_runs_at_the_end_is_left_to_a_recovery(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, ship=False) as process:
        await process.append(intent("req_running"), *requests(1))
        assert await process.drain()
        assert process.own.path.exists()
    assert await outcomes(engine) == {"req_running": None, "req_00000": "completed"}
    async with spooling(root, engine):
        await eventually(lambda: not process.own.path.exists())
    assert (await outcomes(engine))["req_running"] == "crashed"


async def test_a_dead_spool_that_cannot_be_ended_stays_and_holds_up_nobody(
    root: Path, engine: AsyncEngine
) -> None:
    said = ChunkPayload("req_spoilt", "acme", None, {"0": "a secret"})  # no_answer fails at it
    async with spooling(root, engine, ship=False) as spoilt:
        await spoilt.append(intent("req_spoilt"))
        await spoilt.append_frames(Frame(FrameKind.CHUNK, encode_chunk(said)))
    async with spooling(root, engine, ship=False) as dead:
        await dead.append(intent("req_running"))
    with capture_logs() as logs:
        async with spooling(root, engine) as process:
            await process.append(*requests(1))
            await eventually(lambda: not dead.own.path.exists())
            await eventually(lambda: process.written == 2 + 2)
            assert spoilt.own.path.exists()
    assert await outcomes(engine) == {"req_running": "crashed", "req_00000": "completed"}
    (told,) = [line for line in logs if line["event"] == "audit_spool_not_recovered"]
    assert "a secret" not in str(told)


async def test_living_processes_leave_each_other_alone_and_share_the_dead(
    root: Path, database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "ADOPT_SECONDS", 0.01)
    other_engine = create_engine(database_url, connections=1)
    left = []
    for number in range(8):
        async with spooling(root, engine, ship=False) as dead:
            await dead.append(intent(f"req_{number}"), outcome(f"req_{number}"))
            left.append(dead.own.path)
    async with spooling(root, engine) as one, spooling(root, other_engine) as other:
        await eventually(lambda: not any(path.exists() for path in left))
        await one.append(intent("req_of_one"))
        await other.append(intent("req_of_other"))
        await eventually(lambda: (one.written or 0) + (other.written or 0) == 18)
        assert one.own.path.exists()
        assert other.own.path.exists()
        assert len(await rows(engine)) == 10
        assert set((await times_written(engine)).values()) == {1}
    await other_engine.dispose()


async def test_two_shippers_on_one_directory_write_nothing_twice(
    root: Path, database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a filesystem whose locks do not lock."""
    monkeypatch.setattr("app.audit.spool.shipment.MAX_BATCH_RECORDS", 7)
    other_engine = create_engine(database_url, connections=1)
    ids = [f"req_{number:03}" for number in range(200)]
    async with spooling(root, engine, ship=False) as process:
        await process.append(*map(intent, ids))
        await process.writer.close()

        async def ship(on: AsyncEngine) -> None:
            shipment = Shipment(on, process.own, RealDisk(), WriterGone(), Metrics())
            while await shipment.ship_next():
                pass

        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.gather(ship(engine), ship(other_engine))
    assert await times_written(engine) == dict.fromkeys(ids, 1)
    await other_engine.dispose()
