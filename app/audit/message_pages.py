"""The messages in Postgres, read whole: day by day and page by page."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any, NamedTuple

from app.audit.content.nodes import StoredMessage
from app.audit.log_reader import LogReader

PAGE_MESSAGES = 2_000
PAGE_BYTES = 16 * 1024 * 1024  # of bodies in memory; a single one may be longer

_PARTITIONS = """
SELECT oid::bigint AS oid, pg_get_expr(relpartbound, oid) AS bounds
FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent = 'audit_messages'::regclass ORDER BY relname
"""
_BOUNDS = re.compile(r"FROM \('(\d{4}-\d\d-\d\d)'\) TO \('(\d{4}-\d\d-\d\d)'\)")

# Through the parent table, as a gateway's role has rights on nothing else. The days let Postgres
# look at the one partition only; the object's id holds where a partition has no days.
_OF_PARTITION = "FROM audit_messages WHERE tableoid = $1 AND stored_on >= $2 AND stored_on < $3"
_KEY = "tenant, address, stored_on"
_KEYS = f"""
SELECT {_KEY}, octet_length(body) AS size {_OF_PARTITION}
AND ({_KEY}) > ($4, $5, $6) AND ($7::text IS NULL OR tenant = $7)
ORDER BY {_KEY} LIMIT {PAGE_MESSAGES}
"""
_ROWS = f"""
SELECT {_KEY}, parent, salt, encoding, body {_OF_PARTITION}
AND ({_KEY}) >= ($4, $5, $6) AND ({_KEY}) <= ($7, $8, $9) ORDER BY {_KEY}
"""


class MessageRow(NamedTuple):
    stored_on: date
    message: StoredMessage


class Partition(NamedTuple):
    """Days from `day` on and before `end`. A `day` of None was not made by us."""

    oid: int
    day: date | None
    end: date = date.max

    @property
    def place(self) -> tuple[int, date, date]:
        return self.oid, self.day or date.min, self.end


class _Key(NamedTuple):
    tenant: str
    address: bytes
    stored_on: date


class MessagePages:
    """Of those that were stored on `days`, both included; of one tenant, or of all."""

    def __init__(
        self, reader: LogReader, days: tuple[date, date], tenant: str | None = None
    ) -> None:
        self._reader = reader
        self._days = days
        self._tenant = tenant

    async def partitions(self) -> list[Partition]:
        """Raises DatabaseUnavailable."""
        since, until = self._days
        found = []
        for row in await self._reader.fetch(_PARTITIONS):
            match = _BOUNDS.search(row["bounds"] or "")
            if match is None:
                found.append(Partition(row["oid"], None))
                continue
            day, end = map(date.fromisoformat, match.groups())
            if since <= day <= until:
                found.append(Partition(row["oid"], day, end))
        return found

    async def of(self, partition: Partition) -> AsyncIterator[list[MessageRow]]:
        """By tenant and address. Raises DatabaseUnavailable."""
        last = _Key(self._tenant or "", b"", date.min)
        while page := await self._keys(partition, last):
            last = page[-1][0]
            for first, end in _groups(page):
                yield await self._rows(partition, first, end)

    async def _keys(self, partition: Partition, last: _Key) -> list[tuple[_Key, int]]:
        rows = await self._reader.fetch(_KEYS, *partition.place, *last, self._tenant)
        return [
            (_Key(row["tenant"], row["address"], row["stored_on"]), row["size"]) for row in rows
        ]

    async def _rows(self, partition: Partition, first: _Key, last: _Key) -> list[MessageRow]:
        rows = await self._reader.fetch(_ROWS, *partition.place, *first, *last)
        return [message_row(row) for row in rows]


def message_row(row: Any) -> MessageRow:
    """Of a row with all columns of the table."""
    return MessageRow(
        row["stored_on"],
        StoredMessage(
            row["tenant"], row["address"], row["parent"], row["salt"], row["encoding"], row["body"]
        ),
    )


def _groups(page: list[tuple[_Key, int]]) -> Iterator[tuple[_Key, _Key]]:
    """The first and the last of as many as PAGE_BYTES hold."""
    start, size = 0, 0
    for place, (_, body_bytes) in enumerate(page):
        size += body_bytes
        if size > PAGE_BYTES and place > start:
            yield page[start][0], page[place - 1][0]
            start, size = place, body_bytes
    yield page[start][0], page[-1][0]
