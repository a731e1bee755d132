"""Which revision of the schema this version needs, and which one a database has. Apart from the
migrations, so that a serving process does not carry Alembic (11 MiB) along."""

from sqlalchemy import column, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.store.transaction import in_transaction

SCHEMA_REVISION = "0006"  # the newest of migrations/versions

_VERSION_TABLE = "alembic_version"


async def schema_revision(engine: AsyncEngine) -> str | None:
    """The revision of the database, None for an empty one. Raises DatabaseUnavailable."""
    return await in_transaction(engine, revision_of)


async def schema_is_current(engine: AsyncEngine) -> bool:
    """Whether `gateway db upgrade` has been run for this version. Raises DatabaseUnavailable."""
    return await schema_revision(engine) == SCHEMA_REVISION


async def revision_of(connection: AsyncConnection) -> str | None:
    known = await connection.scalar(text("SELECT to_regclass(:name)"), {"name": _VERSION_TABLE})
    if known is None:
        return None
    found: str | None = await connection.scalar(
        select(column("version_num")).select_from(table(_VERSION_TABLE))
    )
    return found
