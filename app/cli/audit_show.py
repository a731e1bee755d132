"""`gateway audit show`: one request, with all that was said."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.exchange import Exchange, read_exchange
from app.audit.records import Outcome
from app.audit.row import AuditRow
from app.audit.search import find_audit_record
from app.audit.view import exchange_json, record_json
from app.cli.audit_summary import summary
from app.cli.database import on_database
from app.cli.errors import fail
from app.cli.exchange_text import exchange_lines
from app.cli.json_option import as_json, ascii_json
from app.cli.moments import second
from app.cli.table import fields
from app.settings import Settings


@click.command()
@click.argument("request_id", metavar="REQUEST_ID")
@click.option(
    "--metadata", is_flag=True, help="Every field of the record, and nothing that was said."
)
@as_json
def show(*, request_id: str, metadata: bool, as_json: bool) -> None:
    """Show one request: who asked, what was said, how it ended. Its id is in the answer's
    x-request-id header."""

    async def step(engine: AsyncEngine, _: Settings) -> tuple[AuditRow, Exchange | None]:
        record = await find_audit_record(engine, request_id)
        if record is None:
            fail(f"there is no audit record with the request id {request_id!a}")
        return record, None if metadata else await read_exchange(engine, record)

    record, exchange = on_database(step)
    if as_json:
        found = record_json(record) if metadata else exchange_json(record, exchange)
        click.echo(ascii_json(found))
        return
    if metadata:
        click.echo(fields(_every_field(record).items()))
        return
    click.echo(fields(summary(record)))
    for line in _said(record, exchange):
        click.echo(line)


def _every_field(record: AuditRow) -> dict[str, object]:
    return asdict(record) | {
        "received_at": second(record.received_at),
        "settled_at": second(record.settled_at),
        "recorded_at": second(record.recorded_at),
        "parameters": json.dumps(record.parameters, sort_keys=True),
        "findings": json.dumps(record.findings, sort_keys=True),
        "content": json.dumps(record.content, sort_keys=True),
    }


def _said(record: AuditRow, exchange: Exchange | None) -> Iterator[str]:
    yield ""
    if exchange is not None:
        yield from exchange_lines(exchange, record.finish_reason)
    elif record.outcome is None:
        yield "It has not ended: what was said is shown once it has."
    elif record.level == "metadata":
        yield "Nothing that was said is kept: the level is metadata."
    elif record.outcome == Outcome.REFUSED:
        yield "Nothing that was said is kept: it was refused for its form, or before it was read."
    elif record.outcome == Outcome.COMPLETED:
        yield "Nothing was said."
    else:
        yield "Nothing that was said is kept: it ended before that was recorded."
