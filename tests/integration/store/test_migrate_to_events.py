"""The revision that makes the audit log a chain of events, on a database with records."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.migrate import Patience, Upgrade, upgrade
from app.store.schema import SCHEMA_REVISION, schema_state
from app.store.transaction import DatabaseUnavailable
from tests.integration.store.differences import differences
from tests.integration.store.statements import until_one_waits
from tests.integration.store.test_migrate_in_use import (
    RECORD,
    all_rows,
    downgrade_to,
    put,
    upgrade_to,
)

FILE = "SELECT pg_relation_filenode('%s')"
OFFSET = "INSERT INTO audit_spool_offsets (writer, segment, offset_bytes) VALUES ('w', 3, 44)"
EVENT = """
INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload)
VALUES (now(), 'w', 1, 1, '', '{}')
"""


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(empty_database_url)
    yield engine
    await engine.dispose()


async def test_old_records_stay_as_they_are_under_another_name(empty: AsyncEngine) -> None:
    await upgrade_to(empty, "0005")
    await put(empty, RECORD, id="req_before")
    await put(empty, OFFSET)
    file = await all_rows(empty, FILE % "audit_records")
    assert await upgrade(empty) == Upgrade("0005", SCHEMA_REVISION)
    kept = "SELECT request_id FROM audit_records_before_0006"
    assert await all_rows(empty, kept) == [("req_before",)]
    assert await all_rows(empty, FILE % "audit_records_before_0006") == file
    offsets = "SELECT writer, segment, offset_bytes, sequence, hash FROM audit_spool_offsets"
    assert await all_rows(empty, offsets) == [("w", 3, 44, 0, None)]
    assert await all_rows(empty, "SELECT * FROM audit_records") == []
    assert await differences(empty) == []


async def test_a_log_without_events_may_be_taken_back(empty: AsyncEngine) -> None:
    await upgrade_to(empty, "0005")
    await put(empty, RECORD, id="req_before")
    await upgrade(empty)
    await downgrade_to(empty, "0005")
    assert await all_rows(empty, "SELECT request_id FROM audit_records") == [("req_before",)]
    left = "SELECT relname FROM pg_class WHERE relname ~ '^audit_(events|messages|register)'"
    assert await all_rows(empty, left) == []
    await upgrade(empty)
    assert await differences(empty) == []


async def test_a_log_with_events_is_never_taken_back(empty: AsyncEngine) -> None:
    await upgrade(empty)
    await put(empty, EVENT)
    with pytest.raises(RuntimeError, match="audit_events holds records"):
        await downgrade_to(empty, "0005")
    assert (await schema_state(empty)).revision == "0006"
    assert await all_rows(empty, "SELECT count(*) FROM audit_events") == [(1,)]


async def test_partitions_are_there_for_the_days_around(empty: AsyncEngine) -> None:
    await upgrade(empty)
    await put(empty, EVENT)
    named = "SELECT 'audit_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"
    (today,) = (await all_rows(empty, named))[0]
    found = await all_rows(empty, "SELECT tableoid::regclass::text FROM audit_events")
    assert found == [(today,)]
    count = "SELECT count(*) FROM pg_inherits WHERE inhparent = '%s'::regclass"
    for table in ("audit_events", "audit_messages"):
        assert await all_rows(empty, count % table) == [(9,)]


async def test_a_partition_is_stored_and_indexed_as_its_table_says(empty: AsyncEngine) -> None:
    await upgrade(empty)
    indexes = """
        SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indrelid
        WHERE inhparent = 'audit_events'::regclass GROUP BY indrelid
    """
    (own,) = await all_rows(
        empty, "SELECT count(*) FROM pg_index WHERE indrelid = 'audit_events'::regclass"
    )
    assert await all_rows(empty, indexes) == [own] * 9
    # Compressed already, or too short to be.
    stored = """
        SELECT DISTINCT attstorage::text FROM pg_attribute JOIN pg_inherits ON inhrelid = attrelid
        WHERE inhparent = 'audit_messages'::regclass AND attname = 'body'
    """
    assert await all_rows(empty, stored) == [("e",)]


async def test_a_writer_of_records_that_does_not_end_delays_the_upgrade_alone(
    empty: AsyncEngine,
) -> None:
    await upgrade_to(empty, "0005")
    async with empty.begin() as writer:
        await writer.execute(text(RECORD), {"id": "req_running"})
        upgrading = asyncio.ensure_future(upgrade(empty))
        await until_one_waits(writer)
        # Whoever looks up a key does not wait with it.
        assert await all_rows(empty, "SELECT name, limits FROM tenants") == []
        assert not upgrading.done()
    await upgrading
    assert await differences(empty) == []


async def test_a_lock_on_tenants_that_is_not_to_be_had_is_given_up_and_nothing_has_changed(
    empty: AsyncEngine,
) -> None:
    await upgrade_to(empty, "0005")
    async with empty.begin() as reader:
        await reader.execute(text("LOCK TABLE tenants IN ACCESS SHARE MODE"))
        with pytest.raises(DatabaseUnavailable) as failure:
            await upgrade(empty, Patience(attempts=2, pause_seconds=0.01))
    assert "lock timeout" in failure.value.reason
    assert (await schema_state(empty)).revision == "0005"
    assert await all_rows(empty, "SELECT to_regclass('audit_events')") == [(None,)]
