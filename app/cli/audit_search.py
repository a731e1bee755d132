"""`gateway audit search`: requests, newest first."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import Outcome
from app.audit.row import AuditRow
from app.audit.search import MAX_ROWS, AuditQuery, cursor_of, search_audit
from app.audit.view import record_json
from app.cli.database import on_database
from app.cli.json_option import ascii_json
from app.cli.moments import moment, second
from app.cli.table import table
from app.settings import Settings
from app.store.paging import Page

UNFINISHED = "unfinished"
OUTCOMES = [*(outcome.value for outcome in Outcome), UNFINISHED]


@click.command()
@click.option("--key", "key_id", metavar="ID", help="Requests made with this key.")
@click.option("--tenant", help="Requests of this tenant.")
@click.option(
    "--outcome",
    type=click.Choice(OUTCOMES),
    help="Requests that ended so, or that have not ended.",
)
@click.option("--model", help="Requests for this model, as it was named.")
@click.option(
    "--conversation", metavar="ADDRESS", help="The turns of one conversation; `show` names it."
)
@click.option(
    "--text", help="A part of what is kept beside what was said: of a user agent, an error, ..."
)
@click.option(
    "--since",
    type=moment,
    default="7d",
    show_default=True,
    help="Ended since then: so long ago, or a date and time.",
)
@click.option("--until", type=moment, help="Ended before then.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_ROWS),
    default=50,
    show_default=True,
    help="How many; with --all, how many at a time.",
)
@click.option("--after", metavar="CURSOR", help="Go on where a search ended.")
@click.option("--all", "everything", is_flag=True, help="Go on to the last one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one record a line.")
def search(
    *,
    key_id: str | None,
    tenant: str | None,
    outcome: str | None,
    model: str | None,
    conversation: str | None,
    text: str | None,
    since: datetime,
    until: datetime | None,
    limit: int,
    after: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """List requests that have ended, newest first.

    With `--outcome unfinished` those that are under way, or were cut off and not recovered yet.
    """
    query = AuditQuery(
        since=since,
        until=until,
        key_id=key_id,
        tenant=tenant,
        model=model,
        outcome=Outcome(outcome) if outcome and outcome != UNFINISHED else None,
        unfinished=outcome == UNFINISHED,
        conversation=conversation,
        text=text,
        after=after,
    )

    async def step(engine: AsyncEngine, _: Settings) -> None:
        first, query_of_page = True, query
        while True:
            page = await search_audit(engine, query_of_page, limit=limit)
            for line in _lines(page, first=first, as_json=as_json):
                click.echo(line)
            if not page.has_more:
                return
            cursor = cursor_of(page.records[-1])
            if not everything:
                click.echo(f"there are more: --after {cursor}, or --all", err=True)
                return
            first, query_of_page = False, replace(query, after=cursor)

    on_database(step)


_HEAD = (
    "TIME", "REQUEST", "STATUS", "OUTCOME", "TENANT", "KEY", "MODEL", "IN", "OUT", "SECONDS",
    "FINDINGS",
)  # fmt: skip
_MODEL_CHARACTERS = 24  # the end tells models apart; their owner's name comes first


def _lines(page: Page[AuditRow], *, first: bool, as_json: bool) -> Iterator[str]:
    if as_json:
        yield from (ascii_json(record_json(record)) for record in page.records)
        return
    shown = table(_HEAD, (_cells(record) for record in page.records))
    # With the head, so that its columns are as wide as at least their names on every page.
    yield from shown.splitlines()[0 if first else 1 :]


def _cells(record: AuditRow) -> Sequence[object]:
    seconds = record.duration_seconds
    model = record.model
    if model is not None and len(model) > _MODEL_CHARACTERS:
        model = "..." + model[3 - _MODEL_CHARACTERS :]
    return (
        second(record.received_at),
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
