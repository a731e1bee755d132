"""`gateway audit`: who asked for what, and how it ended."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import Outcome
from app.audit.search import (
    MAX_RECORDS,
    AuditQuery,
    AuditRow,
    find_audit_record,
    search_audit,
)
from app.cli.database import on_database
from app.cli.durations import duration
from app.cli.errors import fail
from app.cli.table import fields, table
from app.settings import Settings

UNFINISHED = "unfinished"
OUTCOMES = [*(outcome.value for outcome in Outcome), UNFINISHED]
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one record a line.")


@click.group()
def audit() -> None:
    """Who asked for what, and how it ended."""


@audit.command("search")
@click.option("--key", "key_id", metavar="ID", help="Requests made with this key.")
@click.option("--tenant", help="Requests of this tenant.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Requests that ended so.")
@click.option("--model", help="Requests for this model, as it was named.")
@click.option("--since", type=duration(), default="7d", show_default=True, help="How far back.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_RECORDS), default=50, show_default=True, help="How many."
)
@as_json
def search(
    *,
    key_id: str | None,
    tenant: str | None,
    outcome: str | None,
    model: str | None,
    since: timedelta,
    limit: int,
    as_json: bool,
) -> None:
    """List requests, newest first."""
    query = AuditQuery(
        since=datetime.now(UTC) - since,
        key_id=key_id,
        tenant=tenant,
        model=model,
        outcome=Outcome(outcome) if outcome and outcome != UNFINISHED else None,
        unfinished=outcome == UNFINISHED,
    )

    async def step(engine: AsyncEngine, _: Settings) -> list[AuditRow]:
        return await search_audit(engine, query, limit=limit)

    found = on_database(step)
    if as_json:
        for record in found:
            click.echo(_as_json(record))
    else:
        click.echo(table(_HEAD, (_cells(record) for record in found)))


@audit.command("show")
@click.argument("request_id", metavar="REQUEST_ID")
@as_json
def show(*, request_id: str, as_json: bool) -> None:
    """Show all that is kept of one request. Its id is in the answer's x-request-id header."""

    async def step(engine: AsyncEngine, _: Settings) -> AuditRow | None:
        return await find_audit_record(engine, request_id)

    record = on_database(step)
    if record is None:
        fail(f"there is no audit record with the request id {request_id!r}")
    if as_json:
        click.echo(_as_json(record))
    else:
        click.echo(fields(_readable(record).items()))


_HEAD = (
    "TIME", "REQUEST", "STATUS", "OUTCOME", "TENANT", "KEY", "MODEL", "IN", "OUT", "SECONDS",
    "FINDINGS",
)  # fmt: skip
_MODEL_CHARACTERS = 24  # the end tells models apart; their owner's name comes first


def _cells(record: AuditRow) -> tuple[object, ...]:
    seconds = record.duration_seconds
    model = record.model
    if model is not None and len(model) > _MODEL_CHARACTERS:
        model = "..." + model[3 - _MODEL_CHARACTERS :]
    return (
        _time(record.received_at),
        record.request_id,
        record.status,
        record.outcome or UNFINISHED,
        record.tenant,
        record.key_id,
        model,
        record.prompt_tokens,
        record.completion_tokens,
        None if seconds is None else f"{seconds:.2f}",
        ",".join(sorted(record.findings)) or None,
    )


def _readable(record: AuditRow) -> dict[str, object]:
    settled_at = record.settled_at
    return asdict(record) | {
        "received_at": _time(record.received_at),
        "settled_at": None if settled_at is None else _time(settled_at),
        "parameters": json.dumps(record.parameters, sort_keys=True),
        "findings": json.dumps(record.findings, sort_keys=True),
    }


def _as_json(record: AuditRow) -> str:
    # ASCII, so that no text of a client's can steer the terminal it is shown on.
    settled_at = record.settled_at
    moments = {
        "received_at": record.received_at.isoformat(),
        "settled_at": None if settled_at is None else settled_at.isoformat(),
    }
    return json.dumps(asdict(record) | moments)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
