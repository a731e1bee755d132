"""`gateway db`: the database's schema."""

import click

from app.cli.database import on_database
from app.store.migrate import upgrade


@click.group()
def db() -> None:
    """The database's schema."""


@db.command("upgrade")
def upgrade_schema() -> None:
    """Bring the database to the schema of this version.

    Safe to run again, and from several places at once.
    """
    done = on_database(lambda engine, _: upgrade(engine), migrated=False)
    if done.changed:
        click.echo(f"upgraded from {done.before or 'an empty database'} to {done.after}")
    else:
        click.echo(f"already at {done.after}")
