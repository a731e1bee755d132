"""`engine` has one connection, as a shipper's has, on a database that notes every event that it is
given, and refuses those with an error of a certain name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from tests.integration.audit.spool.spooling import POISON

WATCH = (
    "CREATE TABLE IF NOT EXISTS row_writes (request_id text, kind integer)",
    # Before, so that it notes what is there already, too.
    """
    CREATE OR REPLACE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO row_writes VALUES (NEW.request_id, NEW.kind); RETURN NEW; END $$
    """,
    """
    CREATE OR REPLACE TRIGGER note_row BEFORE INSERT ON audit_events
    FOR EACH ROW EXECUTE FUNCTION note_row()
    """,
    "ALTER TABLE audit_events DROP CONSTRAINT IF EXISTS no_poison",
    f"ALTER TABLE audit_events ADD CONSTRAINT no_poison CHECK (error_code <> '{POISON}')",
)

EMPTY = "TRUNCATE audit_events, audit_messages, audit_register, audit_spool_offsets, row_writes"


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
