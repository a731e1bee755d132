"""Applying the migrations, as `gateway db upgrade` and `gateway dev` do, and `serve` never."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.store.schema import SCHEMA_REVISION, revision_of, schema_is_current
from app.store.transaction import DatabaseUnavailable, reason_of

__all__ = ["Upgrade", "migrations_directory", "schema_is_current", "upgrade"]

CONNECT_SECONDS = 5.0
# Of 64 bits, shared with nobody: two upgrades at once run one after the other.
ADVISORY_LOCK = 0x717779_74686F73
LOCK_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Upgrade:
    """`before` is None for a database that was empty."""

    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


async def upgrade(engine: AsyncEngine) -> Upgrade:
    """Bring the engine's database to SCHEMA_REVISION, each revision in a transaction of its own:
    what goes wrong stops before a revision or after it.

    Raises DatabaseUnavailable, also where the database refuses a statement.
    """
    # Its own connection: the engine's statements may take seconds, a migration may take hours.
    patient = create_async_engine(
        engine.url, poolclass=NullPool, connect_args={"timeout": CONNECT_SECONDS}
    )
    try:
        async with patient.connect() as connection:
            await _wait_for_others(connection)
            before = await revision_of(connection)
            await connection.commit()  # so that Alembic begins and ends the transactions
            if before != SCHEMA_REVISION:
                await connection.run_sync(_run_migrations)
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseUnavailable(reason_of(error)) from error
    finally:
        await patient.dispose()
    return Upgrade(before, SCHEMA_REVISION)


def migrations_directory() -> Path:
    """Beside this file in an installed wheel, at the top of the repository otherwise."""
    installed = Path(__file__).parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "migrations"


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def _wait_for_others(connection: AsyncConnection) -> None:
    """Until no other upgrade runs; the end of the connection lets go.

    Asked again and again: who waits inside of a statement holds a snapshot, for whose end an index
    that the other upgrade builds concurrently would wait in turn.
    """
    question, lock = text("SELECT pg_try_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK}
    while True:
        ours = await connection.scalar(question, lock)
        await connection.commit()
        if ours:
            return
        await asyncio.sleep(LOCK_POLL_SECONDS)


def _run_migrations(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA_REVISION)
