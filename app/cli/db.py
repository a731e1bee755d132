"""`gateway db`: the database's schema."""

import click

from app.cli.database import on_database
from app.store.grants import grant
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


@db.command("grant")
@click.argument("role")
def grant_rights(role: str) -> None:
    """Give ROLE the rights that a gateway needs, and no others.

    It may then add to the audit log, and not change what is there. Run as the owner of the tables,
    once the role exists; again after each upgrade. `gateway audit erase` and `gateway audit prune`
    are for the owner.
    """
    on_database(lambda engine, _: grant(engine, role))
    click.echo(f"{role} may run a gateway, and add to its audit log")
