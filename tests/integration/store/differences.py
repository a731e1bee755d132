"""What a database has that the code does not know, or the other way round."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.schema import SchemaItem

from app.store.tables import metadata

_PARTITIONS = text("SELECT relname FROM pg_class WHERE relispartition")
LEFT_ALONE = {"audit_records_before_0006"}  # evidence, which no code reads


async def differences(engine: AsyncEngine) -> list[object]:
    """But for partitions, which come and go, and for what is left alone."""

    def compare(connection: Connection) -> list[object]:
        ignored = LEFT_ALONE | set(connection.scalars(_PARTITIONS))

        def include(
            item: SchemaItem, name: str | None, kind: str, reflected: bool, other: object
        ) -> bool:
            return not (kind == "table" and name in ignored)

        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_object": include,
        }
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    async with engine.connect() as connection:
        return await connection.run_sync(compare)
