"""The shipper beside a database that answers too late."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.spool import shipper
from app.store import database
from app.store.database import create_engine
from tests.integration.audit.logged import eventually
from tests.integration.audit.spool.spooling import intent, spooling, times_written


@pytest.fixture
async def hasty_engine(
    database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncEngine]:
    monkeypatch.setattr(database, "STATEMENT_SECONDS", 0.3)
    monkeypatch.setattr(shipper, "MAX_RETRY_SECONDS", 0.01)
    hasty = create_engine(database_url, connections=1)
    yield hasty
    await hasty.dispose()


async def test_a_batch_that_takes_too_long_is_tried_again_in_parts_and_written_once(
    root: Path, engine: AsyncEngine, hasty_engine: AsyncEngine
) -> None:
    sizes: list[int] = []

    @event.listens_for(hasty_engine.sync_engine, "before_cursor_execute")
    def note(*arguments: object) -> None:
        statement, parameters = arguments[2], arguments[3]
        if "INTO audit_spool_offsets" in str(statement):
            numbers = [each for each in parameters if isinstance(each, int)]  # type: ignore[attr-defined]  # a tuple
            sizes.append(numbers[-1])  # the number of the last event, from 1 on

    ids = [f"req_{number:02}" for number in range(40)]
    async with spooling(root, hasty_engine, ship=False) as process, engine.connect() as other:
        await process.append(*map(intent, ids))
        await other.execute(text("LOCK TABLE audit_events IN EXCLUSIVE MODE"))
        with capture_logs() as logs:
            async with asyncio.TaskGroup() as group:
                drained = group.create_task(process.drain())
                await eventually(lambda: len(sizes) >= 3)
                await other.rollback()
            assert drained.result()
    assert sizes[0] > sizes[1] > sizes[2] > 1
    assert logs[0]["event"] == "audit_database_away"
    assert await times_written(engine) == dict.fromkeys(ids, 1)
