"""Runs the migrations on the connection that app/store/migrate.py opened and locked."""

from alembic import context

from app.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,  # some build indexes outside of any
)
with context.begin_transaction():
    context.run_migrations()
