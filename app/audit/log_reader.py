"""The log in Postgres, read whole: chain by chain and page by page.

Each page is a short transaction of its own: neither a writer nor a partition that is dropped waits
for whoever reads for hours. Rows come past SQLAlchemy, which takes as long for one as it takes to
verify it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.bounds import BEGINNING, END, in_sql
from app.audit.chain import ChainHead
from app.audit.projection import COLUMNS
from app.audit.spool.frames import FrameKind
from app.audit.stored import moment_of
from app.audit.verify.evidence import RegisterRow, StoredEvent
from app.store.transaction import in_transaction

# Some 2 MB, and 80 MB where each has the longest findings.
PAGE_EVENTS = 1_000

# Of a part of the log: read on to the checkpoint that covers its last events, so far at most.
MAX_EVENTS_BEHIND = 20_000

# For a page: a cold disk with a year of partitions, or 16 MB of bodies over a slow line. Nobody
# waits for it as for a request.
PAGE_SECONDS = 120.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Before the first event that a page can have: whoever may insert chooses any number.
_NOTHING_YET = (-(2**63), BEGINNING - _MICROSECOND)
_MAX_BEYOND_BOUNDS = 1_000  # to be told of: they show what was done, and are no evidence


def _readable(column: str) -> str:
    """As a column that the driver can read: a year that it cannot is one of no payload's."""
    return (
        f"CASE WHEN {column} >= timestamptz '10000-01-01Z' THEN 'infinity' "
        f"WHEN {column} < timestamptz '0001-01-01Z' THEN '-infinity' "
        f"ELSE {column} END AS {column}"
    )


_MOMENTS = {"received_at", "settled_at"}
_COLUMNS = ", ".join(_readable(name) if name in _MOMENTS else name for name in COLUMNS)

_WRITERS = """
WITH RECURSIVE found AS (
    (SELECT writer FROM audit_events WHERE recorded_at >= $1 AND recorded_at < $2
     ORDER BY writer LIMIT 1)
    UNION ALL
    SELECT (SELECT next.writer FROM audit_events AS next
            WHERE next.writer > found.writer AND recorded_at >= $1 AND recorded_at < $2
            ORDER BY next.writer LIMIT 1)
    FROM found WHERE found.writer IS NOT NULL
)
SELECT writer FROM found WHERE writer IS NOT NULL
"""
_EVENTS = f"""
SELECT recorded_at, sequence, kind, hash, payload, {_COLUMNS}
FROM audit_events
WHERE writer = $1 AND (sequence, recorded_at) > ($2::bigint, $3::timestamptz)
  AND recorded_at >= $4 AND recorded_at < $5
ORDER BY sequence, recorded_at LIMIT {PAGE_EVENTS}
"""  # noqa: S608 - names of our own
# Plans leave out all partitions but those that a gateway never makes.
_BEYOND_BOUNDS = f"""
SELECT writer, sequence, request_id, (recorded_at AT TIME ZONE 'UTC')::text AS recorded_at
FROM audit_events WHERE recorded_at < {in_sql(BEGINNING)} OR recorded_at >= {in_sql(END)}
ORDER BY writer, sequence LIMIT {_MAX_BEYOND_BOUNDS}
"""  # noqa: S608 - moments of our own
# Of a time that is none of a gateway's no chain can begin, and none does at 0.
_REGISTER = f"""
SELECT number, writer, entry, hash, CASE
    WHEN registered_at >= {in_sql(BEGINNING)} AND registered_at < {in_sql(END)} THEN registered_at
    ELSE 'epoch'
END AS registered_at
FROM audit_register ORDER BY number
"""  # noqa: S608 - moments of our own
_BEFORE = f"""
SELECT recorded_at, sequence, kind, hash, payload, {_COLUMNS}
FROM audit_events
WHERE writer = $1 AND sequence = $2 AND recorded_at < $3
ORDER BY recorded_at DESC LIMIT 1
"""  # noqa: S608 - names of our own
_MISSING = """
SELECT wanted.place
FROM unnest($1::int[], $2::text[], $3::bytea[]) AS wanted (place, tenant, address)
WHERE NOT EXISTS (
    SELECT FROM audit_messages AS stored
    WHERE stored.tenant = wanted.tenant AND stored.address = wanted.address
      AND stored.stored_on BETWEEN $4 AND $5
)
"""
_SIZE = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint AS rows
FROM pg_class JOIN pg_inherits ON inhrelid = oid
WHERE inhparent IN ('audit_events'::regclass, 'audit_messages'::regclass)
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Of the log, by when events were recorded, from `since` on and before `until`; None is no
    bound but those of whatever a gateway can record."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def whole(self) -> bool:
        return self.since is None and self.until is None

    def has(self, at: int) -> bool:
        """What was recorded then, in microseconds since the epoch."""
        return (self.since is None or at >= microseconds_of(self.since)) and (
            self.until is None or at < microseconds_of(self.until)
        )

    @property
    def days(self) -> tuple[date, date]:
        """On which the messages of these events may have been stored."""
        first = date.min if self.since is None else self.since.date() - timedelta(days=1)
        return first, date.max if self.until is None else self.until.date()


@dataclass(frozen=True, slots=True)
class BeyondBounds:
    """An event that no gateway can have recorded. `recorded_at` as the database writes it, in
    UTC."""

    writer: str
    sequence: int
    request_id: str | None
    recorded_at: str


class LogReader:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, part: Part) -> None:
        self._engine = engine
        self._since = part.since or BEGINNING
        self._until = part.until or END

    async def size(self) -> int:
        """About how many events and messages there are in the whole log."""
        found = await self.fetch(_SIZE)
        return int(found[0]["rows"])

    async def writers(self) -> set[str]:
        """Who has recorded something in this part."""
        rows = await self.fetch(_WRITERS, self._since, self._until)
        return {row["writer"] for row in rows}

    async def events(self, writer: str) -> AsyncIterator[list[StoredEvent]]:
        """Of this part, by their numbers."""
        last: StoredEvent | None = None
        while page := await self._page(writer, last, self._until):
            last = page[-1]
            yield page

    async def before(self, first: StoredEvent) -> list[StoredEvent]:
        """What the first event of this part follows; nothing where that is missing."""
        if self._since == BEGINNING:
            return []
        rows = await self.fetch(_BEFORE, first.writer, first.sequence - 1, self._since)
        return [_event(first.writer, row) for row in rows]

    async def behind(self, writer: str, last: StoredEvent) -> list[StoredEvent]:
        """What follows the last event of this part, to the checkpoint that covers it."""
        if self._until == END:
            return []
        found: list[StoredEvent] = []
        while len(found) < MAX_EVENTS_BEHIND and (page := await self._page(writer, last, END)):
            for event in page:
                found.append(event)
                if event.kind == FrameKind.CHECKPOINT:
                    return found
            last = page[-1]
        return found

    async def beyond_bounds(self) -> list[BeyondBounds]:
        """Events of the whole log, at times that `writers` and `events` leave out."""
        rows = await self.fetch(_BEYOND_BOUNDS)
        return [BeyondBounds(**row) for row in rows]

    async def register(self) -> list[RegisterRow]:
        rows = await self.fetch(_REGISTER)
        return [
            RegisterRow(**{**row, "registered_at": microseconds_of(row["registered_at"])})
            for row in rows
        ]

    async def shipped(self) -> dict[str, ChainHead]:
        """How far the log itself says that each chain is stored."""
        rows = await self.fetch(
            "SELECT writer, sequence, hash FROM audit_spool_offsets "
            "WHERE sequence > 0 AND hash IS NOT NULL"
        )
        return {row["writer"]: ChainHead(row["sequence"], row["hash"]) for row in rows}

    async def missing_messages(
        self, wanted: Sequence[tuple[str, bytes]], first: date, last: date
    ) -> list[int]:
        """The places of those, by tenant and address, that no row of these days has."""
        tenants, addresses = [tenant for tenant, _ in wanted], [address for _, address in wanted]
        places = list(range(len(wanted)))
        rows = await self.fetch(_MISSING, places, tenants, addresses, first, last)
        return [row["place"] for row in rows]

    async def fetch(self, statement: str, *values: Any) -> list[Any]:
        """The rows by their columns' names."""

        async def step(connection: AsyncConnection) -> list[Any]:
            # It begins the transaction, which the driver's own statements do not.
            await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            driver: Any = (await connection.get_raw_connection()).driver_connection
            rows: list[Any] = await driver.fetch(statement, *values, timeout=PAGE_SECONDS)
            return rows

        return await in_transaction(self._engine, step)

    async def _page(
        self, writer: str, last: StoredEvent | None, until: datetime
    ) -> list[StoredEvent]:
        sequence, at = _NOTHING_YET if last is None else (last.sequence, moment_of(last.at))
        rows = await self.fetch(_EVENTS, writer, sequence, at, self._since, until)
        return [_event(writer, row) for row in rows]


def _event(writer: str, row: Any) -> StoredEvent:
    payload: bytes = row["payload"]
    return StoredEvent(
        writer,
        row["sequence"],
        microseconds_of(row["recorded_at"]),
        row["kind"],
        row["hash"],
        sha256(payload).digest(),
        payload,
        row,
    )


def microseconds_of(moment: datetime) -> int:
    """Since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND
