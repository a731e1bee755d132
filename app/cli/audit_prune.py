"""`gateway audit prune`: old days go."""

from datetime import UTC, datetime, timedelta

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import partitions
from app.audit.retention import dropped_chains, may_drop, retention_payload
from app.audit.spool.frames import FrameKind
from app.cli.audit_keys import command_signing_keys
from app.cli.audit_note import note
from app.cli.database import on_database
from app.cli.durations import duration
from app.cli.errors import CommandError
from app.settings import Settings

# Budgets of a month are counted from the log.
BUDGET_DAYS = 31


@click.command()
@click.option(
    "--keep",
    type=duration(shortest=timedelta(days=1)),
    required=True,
    help="How much is kept, as in 90d; whole days, of UTC.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(*, keep: timedelta, dry_run: bool, yes: bool) -> None:
    """Drop the records of old days, and what was said in them. Where each chain then begins is
    recorded first, so that the log can still be verified."""
    before = (datetime.now(UTC) - keep).date()

    async def step(engine: AsyncEngine, settings: Settings) -> None:
        chains = await partitions.last_of_chains(engine, before)
        click.echo(
            f"older than {before}: records of {len(chains)} chain{'' if len(chains) == 1 else 's'}"
        )
        if keep < timedelta(days=BUDGET_DAYS):
            click.echo(
                f"budgets of a month are counted from the log: with less than {BUDGET_DAYS}d, "
                "some of what was spent is given back"
            )
        if dry_run:
            return
        if not await may_drop(engine):
            raise CommandError("old records are dropped by the owner of the tables only")
        if not yes:
            click.confirm("Drop them for good?", abort=True)
        if chains:
            keys = command_signing_keys(settings).public_keys
            payload = retention_payload(before, await dropped_chains(engine, before, keys))
            await note(engine, settings, FrameKind.RETENTION, [payload])
        dropped = await partitions.prune(engine, before)
        for name in dropped:
            click.echo(f"dropped {name}")
        if not dropped:
            click.echo("nothing is that old")

    on_database(step)
