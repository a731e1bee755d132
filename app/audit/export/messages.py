"""The messages of an export: all of the days that it is about, or those that one key's requests
lead to."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Self

from app.audit.address_book import AddressBook
from app.audit.content.compression import BodyUnreadable, Encoding
from app.audit.content.nodes import ROOT, StoredMessage
from app.audit.export.query import ExportQuery
from app.audit.export.records import ExportedMessage, Record
from app.audit.log_reader import LogReader
from app.audit.message_pages import MessagePages, MessageRow, message_row
from app.audit.projection import columns_of
from app.audit.verify.evidence import StoredEvent
from app.audit.verify.references import references_of

# Looked up together, with their bodies: some hundred kilobytes, and rarely much more.
LOOKUP_MESSAGES = 50

_FIND = """
SELECT DISTINCT ON (address) stored_on, tenant, address, parent, salt, encoding, body
FROM audit_messages
WHERE tenant = $1 AND address = ANY($2::bytea[]) AND stored_on BETWEEN $3 AND $4
ORDER BY address, stored_on DESC
"""

_Address = tuple[str, bytes]


class MessageExport:
    """`follow` is told of the events that are shown, and `finish` when there are no more. Both
    raise DatabaseUnavailable."""

    def __init__(
        self,
        reader: LogReader,
        query: ExportQuery,
        write: Callable[[Record], None],
        progress: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self._query = query
        self._write = write
        self._progress = progress
        self._written = AddressBook()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._written.close()

    async def follow(self, events: Iterable[StoredEvent]) -> None:
        if not self._query.content or self._query.key_id is None:
            return
        wanted = {
            (reference.tenant, reference.address)
            for event in events
            if event.payload is not None
            for reference in references_of(event, columns_of(event.kind, event.payload))
        }
        # From the last messages of conversations back to their first.
        while wanted:
            new = {each for each in wanted if self._written.add(*each)}
            wanted = await self._export(new)

    async def finish(self) -> None:
        if not self._query.content or self._query.key_id is not None:
            return
        pages = MessagePages(self._reader, self._query.part.days, self._query.tenant)
        for partition in await pages.partitions():
            async for rows in pages.of(partition):
                for row in rows:
                    self._write(_exported(row))
                self._progress(len(rows))

    async def _export(self, addresses: set[_Address]) -> set[_Address]:
        """The addresses of the messages before these."""
        before: set[_Address] = set()
        for tenant in {tenant for tenant, _ in addresses}:
            remaining = iter([address for owner, address in addresses if owner == tenant])
            while some := list(islice(remaining, LOOKUP_MESSAGES)):
                for row in await self._find(tenant, some):
                    self._write(_exported(row))
                    if row.message.parent != ROOT:
                        before.add((tenant, row.message.parent))
        return before

    async def _find(self, tenant: str, addresses: list[bytes]) -> list[MessageRow]:
        first, last = self._query.part.days
        rows = await self._reader.fetch(_FIND, tenant, addresses, first, last)
        return [message_row(row) for row in rows]


def _exported(row: MessageRow) -> ExportedMessage:
    message = row.message
    if message.erased:
        return ExportedMessage(row.stored_on, message)
    try:
        body = message.text() or b""
    except BodyUnreadable:  # changed: its address tells, wherever it is verified
        body = message.body
    return ExportedMessage(
        row.stored_on,
        StoredMessage(
            message.tenant, message.address, message.parent, message.salt, Encoding.RAW, body
        ),
    )
