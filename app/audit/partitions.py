"""The partitions of the audit log: made ahead, and dropped once they are old."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import asyncpg
import structlog
from sqlalchemy import Date, bindparam, cast, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.audit.chain import ChainHead
from app.store.transaction import DatabaseUnavailable, reason_of

DAYS_BEFORE = 1  # for what is shipped late, and for clocks that are not quite right
DAYS_AHEAD = 7  # a gateway that cannot make any for a week has been told of daily

# A message that a day's requests refer to is stored on that day, by the clock of its spool; a
# request of the first minutes may refer to what was stored in the last ones of the day before.
MESSAGE_DAYS_LONGER = 1

EVENTS, MESSAGES = "audit_events", "audit_messages"
_DAY = re.compile(r"(audit_events|audit_messages)_(\d{4})(\d{2})(\d{2})")
# Of 64 bits, shared with nobody: of two who drop partitions at once, one is refused.
ADVISORY_LOCK = 0x717779_64726F70
CONNECT_SECONDS = 5.0

log = structlog.get_logger()


async def make_partitions(engine: AsyncEngine, today: date) -> None:
    """For the days around `today`, in UTC. Raises what the database's absence raises."""
    await _make(engine, today - timedelta(DAYS_BEFORE), today + timedelta(DAYS_AHEAD))


async def make_partition(engine: AsyncEngine, day: date) -> None:
    """Raises what the database's absence raises."""
    await _make(engine, day, day)


async def _make(engine: AsyncEngine, first: date, last: date) -> None:
    days = (cast(day, Date) for day in (first, last))
    async with engine.begin() as connection:
        await connection.execute(select(func.audit_make_partitions(*days)))


@dataclass(frozen=True, slots=True)
class _Partition:
    table: str
    name: str
    day: date
    attached: bool
    pending: bool  # its detachment was cut short

    def is_older_than(self, before: date) -> bool:
        kept_days = 0 if self.table == EVENTS else MESSAGE_DAYS_LONGER
        return self.day < before - timedelta(kept_days)


async def prune(engine: AsyncEngine, before: date) -> list[str]:
    """Drops the events recorded before that day, in UTC, and the messages stored before the day
    before; the names of the partitions that are gone. Whoever reads or writes others goes on;
    those who read these are waited for. What was cut short is finished by the next call.

    Needs the rights of the tables' owner. Raises DatabaseUnavailable, also where the database
    refuses, and where another call is under way.
    """
    dropped = []
    async with _patient(engine) as connection:
        if not await connection.scalar(select(func.pg_try_advisory_lock(ADVISORY_LOCK))):
            raise DatabaseUnavailable("old records are being removed by another process")
        for partition in await _partitions(connection):
            if partition.is_older_than(before):
                await _drop(connection, partition)
                dropped.append(partition.name)
                log.info("audit_partition_dropped", partition=partition.name)
    return dropped


async def last_of_chains(engine: AsyncEngine, before: date) -> dict[str, ChainHead]:
    """The last event of each writer before that day, in UTC: what `prune` would leave a chain
    without. Raises DatabaseUnavailable."""
    async with _patient(engine) as connection:
        rows = await connection.execute(_LAST_OF_CHAINS, {"before": start_of(before)})
        return {row.writer: ChainHead(row.sequence, row.hash) for row in rows}


def start_of(day: date) -> datetime:
    """In UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# From writer to writer by the index: each costs two look-ups in a partition, and not all its rows.
_LAST_OF_CHAINS = text(
    """
    WITH RECURSIVE writers AS (
        (
            SELECT writer FROM audit_events WHERE recorded_at < :before ORDER BY writer LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT e.writer FROM audit_events AS e
            WHERE e.recorded_at < :before AND e.writer > writers.writer ORDER BY e.writer LIMIT 1
        )
        FROM writers WHERE writers.writer IS NOT NULL
    )
    SELECT writers.writer, last.sequence, last.hash
    FROM writers CROSS JOIN LATERAL (
        SELECT e.sequence, e.hash FROM audit_events AS e
        WHERE e.recorded_at < :before AND e.writer = writers.writer
        ORDER BY e.sequence DESC LIMIT 1
    ) AS last
    """
).bindparams(bindparam("before"))

# Those that are detached and not dropped, too: no table of ours has such a name otherwise.
_PARTITIONS = text(
    """
    SELECT c.relname, i.inhrelid IS NOT NULL AS attached,
        coalesce(i.inhdetachpending, false) AS pending
    FROM pg_class AS c
    JOIN pg_class AS events
        ON events.oid = 'audit_events'::regclass AND events.relnamespace = c.relnamespace
    LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
    WHERE c.relkind = 'r' AND c.relname ~ '^audit_(events|messages)_[0-9]{8}$'
    ORDER BY c.relname
    """
)


async def _partitions(connection: AsyncConnection) -> list[_Partition]:
    found = []
    for row in await connection.execute(_PARTITIONS):
        name = _DAY.fullmatch(row.relname)
        if name is not None:
            table, *numbers = name.groups()
            day = date(*map(int, numbers))
            found.append(_Partition(table, row.relname, day, row.attached, row.pending))
    return found


async def last_day(connection: AsyncConnection) -> date | None:
    """For which there is a partition of events, in UTC. Raises what the database's absence
    raises."""
    days = [each.day for each in await _partitions(connection) if each.table == EVENTS]
    return max(days, default=None)


async def _drop(connection: AsyncConnection, partition: _Partition) -> None:
    if partition.attached:
        # Whoever uses the table goes on meanwhile, which dropping the partition at once would stop.
        how = "FINALIZE" if partition.pending else "CONCURRENTLY"
        await connection.exec_driver_sql(
            f"ALTER TABLE {partition.table} DETACH PARTITION {partition.name} {how}"
        )
    await connection.exec_driver_sql(f"DROP TABLE {partition.name}")


@asynccontextmanager
async def _patient(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of its own, whose statements may take as long as they need, each by itself."""
    patient = create_async_engine(
        engine.url, poolclass=NullPool, connect_args={"timeout": CONNECT_SECONDS}
    )
    try:
        async with patient.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseUnavailable(reason_of(error)) from error
    finally:
        await patient.dispose()
