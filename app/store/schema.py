"""Which revision of the schema this version needs, which one a database has, and whether the two go
together. Apart from the migrations, so that a serving process does not carry Alembic (11 MiB)
along.

A database may be ahead of the code: in a rolling upgrade the schema changes first, and replicas of
the version before restart on it. Each schema says the oldest code that it serves.
"""

from dataclasses import dataclass

from sqlalchemy import column, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.store.tables import schema_compatibility
from app.store.transaction import in_transaction

# The newest of migrations/versions. Revisions are four digits, and as text in their order.
SCHEMA_REVISION = "0007"

_VERSION_TABLE = "alembic_version"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """`revision` is None for an empty database; `serves_code_from` is the oldest revision whose
    code the schema serves, None where it does not say."""

    revision: str | None
    serves_code_from: str | None

    @property
    def is_behind(self) -> bool:
        return self.revision is None or self.revision < SCHEMA_REVISION

    @property
    def complaint(self) -> str | None:
        """Why this code cannot use it, in one line that says what to do; None where it can."""
        if self.revision == SCHEMA_REVISION:
            return None
        if self.revision is None:
            return "the database is not migrated: run `gateway db upgrade`"
        if self.is_behind:
            return (
                f"the database is at revision {self.revision}, and this version needs "
                f"{SCHEMA_REVISION}: run `gateway db upgrade`"
            )
        oldest = self.serves_code_from
        if oldest is not None and oldest <= SCHEMA_REVISION:
            return None
        return (
            f"the database is at revision {self.revision}, which serves versions that know "
            f"{oldest or self.revision} or newer, and this one knows {SCHEMA_REVISION}: run a "
            "newer version"
        )


async def schema_state(engine: AsyncEngine) -> SchemaState:
    """Raises DatabaseUnavailable."""
    return await in_transaction(engine, state_of)


async def state_of(connection: AsyncConnection) -> SchemaState:
    revision = await revision_of(connection)
    if revision is None or revision <= SCHEMA_REVISION:  # what an older one serves is old code
        return SchemaState(revision, None)
    serves: str | None = await connection.scalar(select(schema_compatibility.c.serves_code_from))
    return SchemaState(revision, serves)


async def revision_of(connection: AsyncConnection) -> str | None:
    known = await connection.scalar(text("SELECT to_regclass(:name)"), {"name": _VERSION_TABLE})
    if known is None:
        return None
    found: str | None = await connection.scalar(
        select(column("version_num")).select_from(table(_VERSION_TABLE))
    )
    return found
