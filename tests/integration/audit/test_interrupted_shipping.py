"""Whatever interrupts the way into the database: the log there is whole, and each event once."""

from collections.abc import AsyncIterator
from itertools import cycle, islice
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.spool import shipper
from app.store.database import create_engine
from tests.integration.audit.replica import (
    DEADLINE_SECONDS,
    TABLES,
    Replica,
    replica,
    tamper,
    verified,
)
from tests.support.conditions import eventually
from tests.support.postgres_proxy import Cut, PostgresProxy, postgres_proxy

REQUESTS = 40
AWAY_AND_BACK = ["audit_database_away", "audit_database_back"]
LATER_SECONDS = 7_200.0  # by then all that no checkpoint covers is found

# A server's own words for a tablespace that is full.
FULL = (
    """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$
    """,
    "CREATE TRIGGER no_room BEFORE INSERT ON audit_messages EXECUTE FUNCTION no_room()",
)
ROOM = ("DROP FUNCTION no_room CASCADE",)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was away is asked again within moments."""
    monkeypatch.setattr(shipper, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(shipper, "MAX_RETRY_SECONDS", 0.05)


@pytest.fixture(autouse=True)
async def empty_log(engine: AsyncEngine) -> None:
    await tamper(engine, f"TRUNCATE {TABLES}")


@pytest.fixture
async def through_proxy(database_url: str) -> AsyncIterator[tuple[PostgresProxy, AsyncEngine]]:
    async with postgres_proxy(database_url) as (proxy, url):
        engine = create_engine(url, connections=1)
        yield proxy, engine
        await engine.dispose()


@pytest.fixture
async def shippers_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, connections=1)
    yield engine
    await engine.dispose()


async def ask(process: Replica, name: str) -> None:
    """Requests whose events and messages come in several batches."""
    for number in range(REQUESTS):
        await process.request(f"req_{name}_{number}", said=f"question {name} {number}, ")


async def check_whole(engine: AsyncEngine, root: Path, requests: int) -> None:
    report = await verified(engine, root, later_seconds=LATER_SECONDS)
    assert report.findings.in_order() == []
    assert (report.notes, report.not_covered) == ([], [])
    assert (report.chains, report.register_rows) == (1, 1)
    # Of each its intent and its outcome, its question and its answer; and one envelope for all.
    assert report.messages == 2 * requests + 1
    async with engine.connect() as connection:
        ended = text("SELECT count(DISTINCT request_id), count(*) FROM audit_events WHERE kind = 2")
        assert tuple((await connection.execute(ended)).one()) == (requests, requests)


@pytest.mark.parametrize(
    "cuts",
    [
        [Cut.AFTER_COMMIT],
        [Cut.BEFORE_COMMIT],
        list(islice(cycle([Cut.AFTER_COMMIT, Cut.BEFORE_COMMIT, Cut.BEFORE_COMMIT]), 30)),
    ],
    ids=["after", "before", "many"],
)
async def test_connections_that_are_cut_at_commits_leave_the_log_whole(
    cuts: list[Cut],
    through_proxy: tuple[PostgresProxy, AsyncEngine],
    engine: AsyncEngine,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the first one on, which brings the writer's registration."""
    monkeypatch.setattr("app.audit.spool.shipment.MAX_BATCH_RECORDS", 10)
    proxy, cut_engine = through_proxy
    proxy.cuts.extend(cuts)
    async with replica(root, cut_engine) as process:
        await ask(process, "a")
        await process.checkpoint()
        await ask(process, "b")
    assert not proxy.cuts
    await check_whole(engine, root, 2 * REQUESTS)


async def read_only(engine: AsyncEngine, *, on: bool) -> None:
    """As after a failover to what follows: whoever is connected has to connect again."""
    name = make_url(str(engine.url)).database
    await tamper(
        engine,
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        f"ALTER DATABASE {name} SET default_transaction_read_only = {'on' if on else 'off'}",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def test_a_database_that_becomes_read_only_takes_all_once_it_is_not(
    engine: AsyncEngine, shippers_engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, shippers_engine) as process:
        await ask(process, "before")
        await process.shipped()
        await read_only(engine, on=True)
        with capture_logs() as logs:
            await ask(process, "meanwhile")
            await eventually(lambda: bool(logs), DEADLINE_SECONDS, "it is told")
            await process.checkpoint()
            assert process.spool.accepting
            await read_only(engine, on=False)
            await eventually(lambda: len(logs) == 2, DEADLINE_SECONDS, "it is back")
        await ask(process, "after")
    assert [line["event"] for line in logs] == AWAY_AND_BACK
    assert "read-only" in logs[0]["reason"]
    await check_whole(engine, root, 3 * REQUESTS)


async def test_a_database_without_room_takes_all_once_it_has_some(
    engine: AsyncEngine, shippers_engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, shippers_engine) as process:
        await ask(process, "before")
        await process.shipped()
        await tamper(engine, *FULL)
        with capture_logs() as logs:
            await ask(process, "meanwhile")
            await eventually(lambda: bool(logs), DEADLINE_SECONDS, "it is told")
            await tamper(engine, *ROOM)
            await eventually(lambda: len(logs) == 2, DEADLINE_SECONDS, "it is back")
    assert [line["event"] for line in logs] == AWAY_AND_BACK
    await check_whole(engine, root, 2 * REQUESTS)


async def test_a_day_without_a_partition_is_made_while_the_log_goes_on(
    engine: AsyncEngine, shippers_engine: AsyncEngine, root: Path
) -> None:
    """Of both tables, and with a process that is registered meanwhile."""
    partitions = (
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'"
        " AND (relname LIKE 'audit_events%' OR relname LIKE 'audit_messages%')"
    )
    async with engine.connect() as connection:
        names = list(await connection.scalars(text(partitions)))
    assert names
    await tamper(engine, *(f"DROP TABLE {name}" for name in names))
    async with replica(root, shippers_engine) as process:
        await ask(process, "a")
    await check_whole(engine, root, REQUESTS)
