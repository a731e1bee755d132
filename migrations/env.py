"""Runs the migrations on the connection that app/store/migrate.py opened and locked."""

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from app.store.tables import metadata, schema_compatibility


def note_compatibility(
    *, ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, object]
) -> None:
    """In the transaction of each revision from 0007 on: which code the schema serves now."""
    for reached in step.destination_revisions:
        oldest = getattr(reached.module, "serves_code_from", None)
        if oldest is not None and ctx.connection is not None:
            ctx.connection.execute(schema_compatibility.update().values(serves_code_from=oldest))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,  # some build indexes outside of any
    on_version_apply=note_compatibility,
)
with context.begin_transaction():
    context.run_migrations()
