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
_BEGINNING = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
_END = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)

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
SELECT recorded_at, sequence, kind, hash, payload, {", ".join(COLUMNS)}
FROM audit_events
WHERE writer = $1 AND (sequence, recorded_at) > ($2::bigint, $3::timestamptz)
  AND recorded_at >= $4 AND recorded_at < $5
ORDER BY sequence, recorded_at LIMIT {PAGE_EVENTS}
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
    bound."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def whole(self) -> bool:
        return self.since is None and self.until is None

    @property
    def days(self) -> tuple[date, date]:
        """On which the messages of these events may have been stored."""
        since, until = self.since or _BEGINNING, self.until or _END
        return since.date() - timedelta(days=1), until.date()


class LogReader:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, part: Part) -> None:
        self._engine = engine
        self._since = part.since or _BEGINNING
        self._until = part.until or _END

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

    async def behind(self, writer: str, last: StoredEvent) -> list[StoredEvent]:
        """What follows the last event of this part, to the checkpoint that covers it."""
        if self._until is _END:
            return []
        found: list[StoredEvent] = []
        while len(found) < MAX_EVENTS_BEHIND and (page := await self._page(writer, last, _END)):
            for event in page:
                found.append(event)
                if event.kind == FrameKind.CHECKPOINT:
                    return found
            last = page[-1]
        return found

    async def register(self) -> list[RegisterRow]:
        rows = await self.fetch(
            "SELECT number, writer, entry, hash, registered_at FROM audit_register ORDER BY number"
        )
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
        sequence, at = (-1, _BEGINNING) if last is None else (last.sequence, moment_of(last.at))
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
