"""`engine` has one connection, as a shipper's has, on a database that notes every row it writes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine

WATCH = (
    "CREATE TABLE IF NOT EXISTS row_writes (request_id text)",
    """
    CREATE OR REPLACE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO row_writes VALUES (NEW.request_id); RETURN NULL; END $$
    """,
    """
    CREATE OR REPLACE TRIGGER note_row AFTER INSERT OR UPDATE ON audit_records
    FOR EACH ROW EXECUTE FUNCTION note_row()
    """,
)

EMPTY = "TRUNCATE audit_records, audit_spool_offsets, row_writes"


async def watch_rows(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in (*WATCH, EMPTY):
            await connection.execute(text(statement))


async def forget_rows(engine: AsyncEngine) -> None:
    """Empties the tables."""
    async with engine.begin() as connection:
        await connection.execute(text(EMPTY))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, connections=1)
    await watch_rows(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "audit"
