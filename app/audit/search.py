"""Reading the audit log back: a page of requests, or one of them.

Each search goes along an index, newest first, through no more days than were asked for. Events that
no gateway can have recorded are left out: `gateway audit verify` tells of them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Select,
    and_,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.bounds import BEGINNING, in_sql, within_bounds
from app.audit.records import Outcome
from app.audit.row import AuditRow, Event, row_of
from app.audit.search_cursor import Cursor, decode_cursor, encode_cursor
from app.audit.spool.frames import FrameKind
from app.audit.stored import MAX_YEAR
from app.errors import InvalidRequest
from app.store.paging import Page
from app.store.tables import audit_events
from app.store.transaction import in_transaction

DEFAULT_SINCE = timedelta(days=7)
# What may be asked for: whatever was recorded, with room for what is reckoned from it.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(MAX_YEAR, 12, 31, tzinfo=UTC)
MAX_ROWS = (
    1_000  # some 80 KiB each with the longest findings; a whole log is exported, not searched
)
SEARCH_SECONDS = 5.0  # a person waits for it, and it holds a connection that requests may need
# Between the moments of one request's intent and outcome, beyond its own length: clocks of two
# hosts, where one ends what the other has left.
CLOCK_SKEW = timedelta(days=1)
QUERY_CANCELED = "57014"  # by the time limit


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is asked for; None asks for all. Without `unfinished`, requests that have ended: `since`
    and `until` (exclusive) say when. With it, those that have not, by when they began.

    `text` is a part of what either event says, its ASCII letters in any case; never of content.
    `after` is the cursor of the row that the page follows.
    """

    since: datetime | None = None
    until: datetime | None = None
    key_id: str | None = None
    tenant: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    unfinished: bool = False
    conversation: str | None = None
    text: str | None = None
    after: str | None = None


def cursor_of(row: AuditRow) -> str:
    """What a search for the rows after this one is given as `after`."""
    return encode_cursor(Cursor(row.recorded_at, row.request_id))


async def search_audit(engine: AsyncEngine, query: AuditQuery, *, limit: int) -> Page[AuditRow]:
    """At most `limit` rows, newest first. Raises InvalidRequest for a cursor that is none, for what
    nothing can be found by, and where it would take longer than SEARCH_SECONDS
    (`search_too_broad`); DatabaseUnavailable."""
    _check(query)
    wanted = _statement(query).limit(limit + 1)

    async def step(connection: AsyncConnection) -> Page[AuditRow]:
        await connection.execute(_BOUNDS)
        try:
            rows = (await connection.execute(wanted)).all()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != QUERY_CANCELED:
                raise
            raise InvalidRequest(
                f"The search took longer than {SEARCH_SECONDS:g} s. Narrow it, by `since` and "
                "`until`, or to a key or a tenant.",
                code="search_too_broad",
            ) from None
        found = tuple(_row(row, unfinished=query.unfinished) for row in rows[:limit])
        return Page(found, len(rows) > limit)

    return await in_transaction(engine, step)


async def find_audit_record(engine: AsyncEngine, request_id: str) -> AuditRow | None:
    """Raises DatabaseUnavailable."""
    if not request_id.isprintable():  # no id of ours, and NUL is none that the database takes
        return None
    event = audit_events.c
    wanted = (
        select(event.kind, event.recorded_at, event.writer, event.sequence, event.payload)
        .where(
            event.request_id == request_id,
            or_(_is(event, _INTENT), _is(event, _OUTCOME)),
            within_bounds(event),
        )
        .order_by(event.recorded_at)
    )

    async def step(connection: AsyncConnection) -> list[Row[Any]]:
        return list(await connection.execute(wanted))

    rows: list[Row[Any]] = await in_transaction(engine, step)
    if not rows:
        return None
    payloads: dict[int, bytes] = {}
    for row in rows:  # of two outcomes, which `verify` tells of, the first
        payloads.setdefault(row.kind, row.payload)
    last = next((row for row in rows if row.kind == _OUTCOME), rows[0])
    event_of = Event(request_id, last.recorded_at, last.writer, last.sequence)
    return row_of(event_of, payloads.get(_INTENT), payloads.get(_OUTCOME))


_BEGINNING: ColumnElement[datetime] = literal_column(in_sql(BEGINNING))
_EQUAL = ("key_id", "tenant", "model", "outcome", "conversation")  # columns, as asked for
_INTENT, _OUTCOME = FrameKind.INTENT, FrameKind.OUTCOME
# For this transaction only. These scans read all of a day, and of all other days, before the first
# row is found. A planner takes them for cheap where it has no statistics yet, as of today, and
# where it thinks that few rows fit; the way along the index ends with the page.
_BOUNDS = select(
    func.set_config("statement_timeout", f"{SEARCH_SECONDS * 1000:.0f}", True),
    func.set_config("enable_seqscan", "off", True),
    func.set_config("enable_bitmapscan", "off", True),
)


def _check(query: AuditQuery) -> None:
    """A slip is told, or nobody would know it from a log that has no such request."""
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise InvalidRequest("`since` has to be before `until`.", param="since")
    for name in _EQUAL:
        value = getattr(query, name)
        # As an argument that is no UTF-8 comes from the command line.
        if value is not None and value != value.encode("utf-8", "replace").decode():
            raise InvalidRequest(f"`{name}` is no text in UTF-8.", param=name)


def _statement(query: AuditQuery) -> Select[Any]:
    event, other = audit_events.alias("event"), audit_events.alias("other")
    kind = _INTENT if query.unfinished else _OUTCOME
    columns = event.c
    wanted = (
        select(
            columns.request_id,
            columns.recorded_at,
            columns.writer,
            columns.sequence,
            columns.payload,
        )
        .where(_is(columns, kind), columns.request_id.is_not(None), *_conditions(columns, query))
        .order_by(columns.recorded_at.desc(), columns.request_id.desc())
    )
    if query.unfinished:
        wanted = wanted.where(~_has_outcome(event, other, query.since))
        return wanted if query.text is None else wanted.where(_says(columns.payload, query.text))
    # Its intent: beside each row that is found, so that the index gives the order.
    intent = (
        select(other.c.payload)
        .where(
            other.c.request_id == columns.request_id,
            _is(other.c, _INTENT),
            within_bounds(other.c),
            # Also where nobody knows of its reception, or was told of one before the calendar.
            other.c.recorded_at >= func.greatest(columns.received_at, _BEGINNING) - CLOCK_SKEW,
            other.c.recorded_at <= columns.recorded_at + CLOCK_SKEW,
        )
        .limit(1)
        .lateral("intent")
    )
    wanted = wanted.add_columns(intent.c.payload.label("intent")).outerjoin(intent, true())
    if query.text is not None:
        wanted = wanted.where(
            or_(_says(columns.payload, query.text), _says(intent.c.payload, query.text))
        )
    return wanted


def _conditions(columns: Any, query: AuditQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [within_bounds(columns)]
    conditions += [
        columns[name] == value for name in _EQUAL if (value := getattr(query, name)) is not None
    ]
    if query.since is not None:
        conditions.append(columns.recorded_at >= query.since)
    if query.until is not None:
        conditions.append(columns.recorded_at < query.until)
    if query.after is not None:
        conditions.append(_after(columns, decode_cursor(query.after)))
    return conditions


def _after(columns: Any, cursor: Cursor) -> ColumnElement[bool]:
    moment = literal(cursor.recorded_at, columns.recorded_at.type)
    place = tuple_(columns.recorded_at, columns.request_id)
    # The first condition follows from the second; by it alone are younger partitions left out.
    return and_(columns.recorded_at <= moment, place < tuple_(moment, literal(cursor.request_id)))


def _is(columns: Any, kind: FrameKind) -> ColumnElement[bool]:
    """Written out: an index of one kind serves no statement whose kind is a parameter."""
    condition: ColumnElement[bool] = columns.kind == literal_column(str(int(kind)))
    return condition


def _has_outcome(
    event: FromClause, other: FromClause, since: datetime | None
) -> ColumnElement[bool]:
    conditions = [
        other.c.request_id == event.c.request_id,
        _is(other.c, _OUTCOME),
        within_bounds(other.c),
    ]
    if since is not None:
        conditions.append(other.c.recorded_at >= since - CLOCK_SKEW)
    return exists(select(text("1")).where(*conditions).correlate(event))


def _says(payload: ColumnElement[bytes], wanted: str) -> ColumnElement[bool]:
    """As JSON has it in a string, with nothing in it that LIKE would obey. In the escape format, in
    which every payload can be read, whoever has spoilt it."""
    in_json = orjson.dumps(wanted.encode("utf-8", "replace").decode())[1:-1]
    readable: ColumnElement[str] = func.encode(payload, "escape")
    return readable.icontains(_in_escape_format(in_json), autoescape=True)


def _in_escape_format(raw: bytes) -> str:
    escaped = raw.replace(b"\\", b"\\\\")
    return "".join(chr(byte) if byte < 128 else f"\\{byte:03o}" for byte in escaped)


def _row(row: Row[Any], *, unfinished: bool) -> AuditRow:
    event = Event(row.request_id, row.recorded_at, row.writer, row.sequence)
    if unfinished:
        return row_of(event, row.payload, None)
    return row_of(event, row.intent, row.payload)
