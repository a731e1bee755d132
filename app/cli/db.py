"""`gateway db`: the database's schema."""

import click

from app.cli.database import on_database
from app.store.grants import grant
from app.store.migrate import Patience, upgrade


@click.group()
def db() -> None:
    """The database's schema."""


@db.command("upgrade")
def upgrade_schema() -> None:
    """Bring the database to the schema of this version.

    Safe to run again, from several places at once, and while gateways of the version before run. A
    schema that is newer, and serves this version, is left as it is.
    """

    def told(reason: str) -> None:
        click.echo(f"waiting for running transactions: {reason}", err=True)

    done = on_database(lambda engine, _: upgrade(engine, Patience(told=told)), migrated=False)
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
