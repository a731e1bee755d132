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
SELECT inhrelid::regclass::text AS name, pg_get_expr(relpartbound, oid) AS bounds
FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent = 'audit_messages'::regclass ORDER BY 1
"""
_DAY = re.compile(r"FROM \('(\d{4}-\d\d-\d\d)'\)")
_KEY = "tenant, address, stored_on"


class MessageRow(NamedTuple):
    stored_on: date
    message: StoredMessage


class Partition(NamedTuple):
    """`name` is quoted as SQL needs it; a `day` of None was not made by us."""

    name: str
    day: date | None


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
            match = _DAY.search(row["bounds"] or "")
            day = None if match is None else date.fromisoformat(match[1])
            if day is None or since <= day <= until:
                found.append(Partition(row["name"], day))
        return found

    async def of(self, partition: Partition) -> AsyncIterator[list[MessageRow]]:
        """By tenant and address. Raises DatabaseUnavailable."""
        last = _Key(self._tenant or "", b"", date.min)
        while page := await self._keys(partition, last):
            last = page[-1][0]
            for first, end in _groups(page):
                yield await self._rows(partition, first, end)

    async def _keys(self, partition: Partition, last: _Key) -> list[tuple[_Key, int]]:
        rows = await self._reader.fetch(
            f"SELECT {_KEY}, octet_length(body) AS size FROM {partition.name} "  # noqa: S608 - the catalogue's own name
            f"WHERE ({_KEY}) > ($1, $2, $3) AND ($4::text IS NULL OR tenant = $4) "
            f"ORDER BY {_KEY} LIMIT {PAGE_MESSAGES}",
            *last,
            self._tenant,
        )
        return [
            (_Key(row["tenant"], row["address"], row["stored_on"]), row["size"]) for row in rows
        ]

    async def _rows(self, partition: Partition, first: _Key, last: _Key) -> list[MessageRow]:
        rows = await self._reader.fetch(
            f"SELECT {_KEY}, parent, salt, encoding, body FROM {partition.name} "  # noqa: S608 - the catalogue's own name
            f"WHERE ({_KEY}) >= ($1, $2, $3) AND ({_KEY}) <= ($4, $5, $6) ORDER BY {_KEY}",
            *first,
            *last,
        )
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
