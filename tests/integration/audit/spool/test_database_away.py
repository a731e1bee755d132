"""The shipper while its database is away, is set back, or its answers are lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.spool import shipper
from app.store.database import create_engine
from app.store.migrate import upgrade
from tests.integration.audit.logged import INTENT, NOW, OUTCOME, WHOLE, eventually, rows
from tests.integration.audit.spool.conftest import forget_rows, watch_rows
from tests.integration.audit.spool.spooling import (
    frame_of,
    intent,
    outcomes,
    query,
    requests,
    spooling,
    times_written,
)
from tests.support.postgres_proxy import Cut, PostgresProxy, postgres_proxy
from tests.support.postgres_server import PostgresServer, postgres_server


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def away_engine(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncEngine]:
    """On a server that is to be stopped."""
    monkeypatch.setattr(shipper, "MAX_RETRY_SECONDS", 0.1)
    engine = create_engine(server.url, connections=1)
    await upgrade(engine)
    await watch_rows(engine)
    yield engine
    with suppress(OSError):  # the database may be away
        await engine.dispose()


async def test_an_outage_costs_nothing_but_spool(
    root: Path, server: PostgresServer, away_engine: AsyncEngine
) -> None:
    async with spooling(root, away_engine, segment_bytes=4096) as process:
        with capture_logs() as logs:
            await process.append(INTENT)
            await eventually(lambda: process.written == 1)
            await asyncio.to_thread(server.stop)

            await process.append(OUTCOME)
            await eventually(lambda: bool(logs))
            waiting = [*requests(300), intent("req_last")]
            await process.append(*waiting)
            await eventually(lambda: process.figures[0] == 1 + len(waiting))
            size = sum(frame_of(record).size_bytes for record in (OUTCOME, *waiting))
            assert process.figures[1] == size
            assert process.writer.accepting
            assert len(process.segments) > size // 4096

            await asyncio.to_thread(server.start)
            await eventually(lambda: process.written == 2 + len(waiting))
            await eventually(lambda: process.figures == (0, 0, 0))
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("audit_database_away", "error"),
            ("audit_database_back", "warning"),
        ]
        assert "SQL" not in logs[0]["reason"]
        assert process.set_aside == 0
    found = {row["request_id"]: row for row in await rows(away_engine)}
    assert found["req_1"] == WHOLE
    assert len(found) == 302


async def test_the_oldest_record_that_waits_has_an_age(
    root: Path, server: PostgresServer, away_engine: AsyncEngine
) -> None:
    async with spooling(root, away_engine, recorded_at=NOW - 90) as process:
        await asyncio.to_thread(server.stop)
        await process.append(intent("req_old"), intent("req_new"))
        await eventually(lambda: process.figures[2] == 90)
        await asyncio.to_thread(server.start)
        await eventually(lambda: process.figures == (0, 0, 0))


async def test_a_database_that_is_away_at_the_start_delays_nothing_else(
    root: Path, server: PostgresServer, away_engine: AsyncEngine
) -> None:
    async with spooling(root, away_engine, ship=False) as dead:
        await dead.append(*requests(10), intent("req_running"))
    await away_engine.dispose()
    await asyncio.to_thread(server.stop)
    async with spooling(root, away_engine) as process:
        await process.append(intent("req_new"))
        await eventually(lambda: process.figures[0] == 10 * 2 + 2 + 1)  # with the crashed one's end
        await asyncio.to_thread(server.start)
        await eventually(lambda: not dead.own.path.exists())
        await eventually(lambda: process.written == 23)
    assert (await outcomes(away_engine))["req_running"] == "crashed"
    assert set((await times_written(away_engine)).values()) == {1}


async def test_what_cannot_be_shipped_at_the_end_waits_for_the_next_process(
    root: Path, server: PostgresServer, away_engine: AsyncEngine
) -> None:
    async with spooling(root, away_engine, ship=False) as process:
        await process.append(*requests(3))
        await process.writer.close()
        await away_engine.dispose()
        await asyncio.to_thread(server.stop)
        with capture_logs() as logs:
            assert not await process.shipper.drain(1.0)  # time to read what waits
        assert logs[-1]["event"] == "audit_spool_left_behind"
        assert process.figures[0] == 6
    await asyncio.to_thread(server.start)
    async with spooling(root, away_engine):
        await eventually(lambda: not process.own.path.exists())
    assert len(await rows(away_engine)) == 3


@pytest.fixture
async def proxy(database_url: str, engine: AsyncEngine) -> AsyncIterator[tuple[PostgresProxy, str]]:
    async with postgres_proxy(database_url) as proxied:
        yield proxied


@pytest.fixture
async def cut_engine(
    proxy: tuple[PostgresProxy, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncEngine]:
    """Through the proxy."""
    monkeypatch.setattr(shipper, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(shipper, "MAX_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("app.audit.spool.shipment.MAX_BATCH_RECORDS", 10)
    engine = create_engine(proxy[1], connections=1)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize(
    "cuts",
    [
        [Cut.BEFORE_COMMIT],
        [Cut.AFTER_COMMIT],
        [Cut.AFTER_COMMIT, Cut.BEFORE_COMMIT, Cut.BEFORE_COMMIT, Cut.AFTER_COMMIT],
        list(islice(cycle([Cut.AFTER_COMMIT, Cut.BEFORE_COMMIT]), 25)),
    ],
    ids=["before", "after", "some", "many"],
)
async def test_a_connection_cut_at_its_commit_loses_and_repeats_nothing(
    root: Path,
    engine: AsyncEngine,
    cut_engine: AsyncEngine,
    proxy: tuple[PostgresProxy, str],
    cuts: list[Cut],
) -> None:
    ids = [f"req_{number:04}" for number in range(200)]
    async with spooling(root, cut_engine, segment_bytes=4096) as process:
        await process.append(intent("req_first"))
        await eventually(lambda: process.written == 1)
        proxy[0].cuts.extend(cuts)
        await process.append(*map(intent, ids))
        await eventually(lambda: process.written == 201)
        assert not proxy[0].cuts
    assert await times_written(engine) == dict.fromkeys(["req_first", *ids], 1)


async def test_records_whose_commit_was_not_heard_of_are_not_written_by_the_next_process(
    root: Path, engine: AsyncEngine, cut_engine: AsyncEngine, proxy: tuple[PostgresProxy, str]
) -> None:
    async with spooling(root, cut_engine, ship=False) as process:
        await process.append(*requests(3))
        proxy[0].cuts.append(Cut.AFTER_COMMIT)
        with pytest.raises(Exception, match="connection"):
            await process.shipper._own.ship_next()
    assert len(await query(engine, "SELECT writer FROM audit_spool_offsets")) == 1
    async with spooling(root, engine) as following:
        await eventually(lambda: not process.own.path.exists())
        assert following.written == 0
    assert set((await times_written(engine)).values()) == {1}


async def test_a_database_set_back_to_an_earlier_time_is_given_what_the_spool_still_has(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine) as process:
        await process.append(*requests(2))
        await eventually(lambda: process.written == 4)
        await forget_rows(engine)
        with capture_logs() as logs:
            await process.append(intent("req_after"))
            await eventually(lambda: process.written == 9)
    assert [line["event"] for line in logs] == [
        "audit_spool_offset_moved",
        "audit_spool_offset_went_back",
    ]
    assert set(await times_written(engine)) == {"req_00000", "req_00001", "req_after"}
