"""Events and messages into Postgres: by COPY into tables of the connection's own, and from there,
without what is there already, into those of the log. Nothing is ever changed there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import structlog
from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.chain import ChainHead
from app.audit.content.nodes import StoredMessage
from app.audit.projection import COLUMNS
from app.store.database import STATEMENT_SECONDS
from app.store.schema import SCHEMA_REVISION
from app.store.tables import audit_events, audit_messages

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A database that takes less does not keep up with a gateway, and is given up on. It decides for a
# message of 32 MiB, which cannot be sent in parts.
MIN_BYTES_PER_SECOND = 1024 * 1024

MAX_YEAR = 9998  # the last day of the next stands for infinity in what a driver is given

# SQLSTATE classes that say that the data is at fault, not the database: data exception, integrity
# constraint violation, and program limit exceeded.
_DATA_AT_FAULT = ("22", "23", "54")
_CHECK_VIOLATION = "23514"

Row = tuple[Any, ...]  # in the order of its table's columns

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of `audit_events` and of `audit_messages`."""

    events: Sequence[Row]
    messages: Sequence[Row]

    @property
    def days(self) -> set[date]:
        """Whose partitions they go to."""
        return {row[0].date() for row in self.events} | {row[0] for row in self.messages}


class BatchRefused(Exception):
    """Some row of the batch is not one that its table can hold. Nothing of it was written."""


class PartitionMissing(Exception):
    """For the day of some row of the batch. Nothing of it was written."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def moment_of(at: int) -> datetime:
    """Of microseconds since the epoch, exactly. Raises OverflowError from the year 9999 on."""
    moment = _EPOCH + timedelta(microseconds=at)
    if moment.year > MAX_YEAR:
        raise OverflowError(f"the year {moment.year}")
    return moment


def event_row(
    writer: str, chain: ChainHead, kind: int, at: int, payload: bytes, columns: dict[str, Any]
) -> Row:
    """`chain` up to and with the event, `columns` as `projection.columns_of` gives them. Raises
    OverflowError as `moment_of` does."""
    return (
        moment_of(at), writer, chain.sequence, kind, chain.hash, payload,
        *[columns[name] for name in COLUMNS],
    )  # fmt: skip


def message_row(at: int, message: StoredMessage) -> Row:
    """Raises OverflowError as `moment_of` does."""
    return (
        moment_of(at).date(), message.tenant, message.address, message.parent, message.salt,
        message.encoding, message.body,
    )  # fmt: skip


@asynccontextmanager
async def storing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction to store a batch in. Raises BatchRefused, PartitionMissing, or what the
    database's absence raises."""
    try:
        async with engine.begin() as connection:
            yield connection
    except (DBAPIError, asyncpg.PostgresError) as error:
        fault = _fault(error)
        if fault is None:
            raise
        raise fault from error


async def store(connection: AsyncConnection, batch: Batch) -> None:
    """In the connection's transaction."""
    if batch.events:
        new = await _copy(connection, audit_events, batch.events)
        if new < len(batch.events):  # the offset moves once: nobody has written these before
            log.error("audit_events_already_there", events=len(batch.events) - new)
    if batch.messages:
        await _copy(connection, audit_messages, batch.messages)


async def _copy(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> int:
    """How many of them are new."""
    # Kept for the connection's next batch: tables made and dropped for each would fill the
    # database's catalogue with what was. The revision is for a connection that a pooler lends on.
    arriving = f"{table.name}_arriving_{SCHEMA_REVISION}"
    await connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {arriving} "
        f"(LIKE {table.name} INCLUDING STORAGE) ON COMMIT DELETE ROWS"
    )
    driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
    timeout = _timeout_seconds(rows)
    names = table.c.keys()
    try:
        await driver.copy_records_to_table(
            arriving, schema_name="pg_temp", columns=names, records=rows, timeout=timeout
        )
    except (ValueError, TypeError, OverflowError) as error:  # a value that its type does not have
        raise BatchRefused(f"{type(error).__name__}: {error}") from error
    # By the keys, so that two who store the same messages never wait for each other in a circle.
    order = ", ".join(column.name for column in table.primary_key)
    columns = ", ".join(names)
    inserted = await driver.execute(
        f"INSERT INTO {table.name} ({columns}) "  # noqa: S608 - names of our own
        f"SELECT {columns} FROM pg_temp.{arriving} ORDER BY {order} ON CONFLICT DO NOTHING",
        timeout=timeout,
    )
    return int(inserted.rpartition(" ")[2])


def _timeout_seconds(rows: Sequence[Row]) -> float | None:
    """For each statement; None: what the connection has is enough."""
    size = sum(len(value) for row in rows for value in row if isinstance(value, bytes))
    seconds = size / MIN_BYTES_PER_SECOND
    return seconds if seconds > STATEMENT_SECONDS else None


def _fault(error: Exception) -> Exception | None:
    """None where it is the database's."""
    cause: Any = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__ or error.orig
    state = getattr(cause, "sqlstate", None) or ""
    # Said as a constraint that has no name.
    if state == _CHECK_VIOLATION and getattr(cause, "constraint_name", None) is None:
        return PartitionMissing(error)
    return BatchRefused(f"SQLSTATE {state}") if state.startswith(_DATA_AT_FAULT) else None
