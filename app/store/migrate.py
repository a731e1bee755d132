"""Applying the migrations, as `gateway db upgrade` and `gateway dev` do, and `serve` never."""

from dataclasses import dataclass
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.store.schema import SCHEMA_REVISION, revision_of, schema_is_current
from app.store.transaction import DatabaseUnavailable, reason_of

__all__ = ["Upgrade", "migrations_directory", "schema_is_current", "upgrade"]

CONNECT_SECONDS = 5.0
# Of 64 bits, shared with nobody: two upgrades at once run one after the other.
ADVISORY_LOCK = 0x717779_74686F73


@dataclass(frozen=True, slots=True)
class Upgrade:
    """`before` is None for a database that was empty."""

    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


async def upgrade(engine: AsyncEngine) -> Upgrade:
    """Bring the engine's database to SCHEMA_REVISION, in one transaction.

    Raises DatabaseUnavailable, also where the database refuses a statement.
    """
    # Its own connection: the engine's statements may take seconds, a migration may take hours.
    patient = create_async_engine(
        engine.url, poolclass=NullPool, connect_args={"timeout": CONNECT_SECONDS}
    )
    try:
        async with patient.begin() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK}
            )
            before = await revision_of(connection)
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


def _run_migrations(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA_REVISION)
