"""Applying the migrations, as `gateway db upgrade` and `gateway dev` do, and `serve` never."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.errors import Conflict
from app.store.schema import SCHEMA_REVISION, state_of
from app.store.transaction import DatabaseUnavailable, reason_of

CONNECT_SECONDS = 5.0
# Of 64 bits, shared with nobody: two upgrades at once run one after the other.
ADVISORY_LOCK = 0x717779_74686F73
LOCK_POLL_SECONDS = 0.1
# Migrations give a lock up within seconds, as whatever comes behind them waits, too. Transactions
# of the gateway end within 10 s; a report that reads for an hour has to be ended by somebody.
LOCK_ATTEMPTS = 30
LOCK_PAUSE_SECONDS = 2.0
LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Patience:
    """With a lock that running transactions hold: how often it is asked for, and how long those
    that wait behind go first. `told` hears of each time that it was not to be had."""

    attempts: int = LOCK_ATTEMPTS
    pause_seconds: float = LOCK_PAUSE_SECONDS
    told: Callable[[str], None] = lambda reason: None


@dataclass(frozen=True, slots=True)
class Upgrade:
    """`before` is None for a database that was empty; `after` may be newer than this code."""

    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


async def upgrade(engine: AsyncEngine, patience: Patience | None = None) -> Upgrade:
    """Bring the engine's database to SCHEMA_REVISION, each revision in a transaction of its own:
    what goes wrong stops before a revision or after it. A newer one is left as it is: the version
    before is deployed again, as far as the schema serves it.

    Raises Conflict for one that is newer and does not serve this code; DatabaseUnavailable, also
    where the database refuses a statement.
    """
    # Its own connection: the engine's statements may take seconds, a migration may take hours.
    patient = create_async_engine(
        engine.url, poolclass=NullPool, connect_args={"timeout": CONNECT_SECONDS}
    )
    try:
        async with patient.connect() as connection:
            await _wait_for_others(connection)
            before = await state_of(connection)
            await connection.commit()  # so that Alembic begins and ends the transactions
            if before.is_behind:
                await _migrate(connection, patience or Patience())
                return Upgrade(before.revision, SCHEMA_REVISION)
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseUnavailable(reason_of(error)) from error
    finally:
        await patient.dispose()
    if before.complaint is not None:
        raise Conflict(before.complaint, code="schema_too_new")
    return Upgrade(before.revision, before.revision or SCHEMA_REVISION)


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


async def _migrate(connection: AsyncConnection, patience: Patience) -> None:
    """Goes on where a lock was given up."""
    for attempt in range(1, patience.attempts + 1):
        try:
            await connection.run_sync(_run_migrations)
            return
        except DBAPIError as error:
            lacks_lock = getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE
            if not lacks_lock or attempt == patience.attempts:
                raise
            await connection.rollback()
            patience.told(reason_of(error))
            await asyncio.sleep(patience.pause_seconds)


def _run_migrations(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA_REVISION)
