"""The log, or a part of it, out of Postgres and into a file that a stranger can verify.

Of events that somebody else's requests are, in an export for one tenant or key, only the hash of
the payload is written: the chain can be followed, and nothing of them be read. So it is with events
outside of the part, which it takes to verify it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from app import __version__
from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import CheckpointUnreadable, parse_checkpoint
from app.audit.export.formats import Sink
from app.audit.export.messages import MessageExport
from app.audit.export.query import ExportQuery
from app.audit.export.records import (
    End,
    ExportedMessage,
    Manifest,
    PublishedCheckpoint,
    Record,
)
from app.audit.log_reader import LogReader, microseconds_of
from app.audit.part_reader import PartReader
from app.audit.projection import columns_of
from app.audit.spool.frames import FrameKind
from app.audit.verify.evidence import RegisterRow, StoredEvent
from app.audit.verify.verifier import SHIPPING_SECONDS

# Of nobody's requests, and what every verification needs.
_FOR_ALL = frozenset({FrameKind.REGISTRATION, FrameKind.CHECKPOINT, FrameKind.RETENTION})

_TENANT_OF_KEY = "SELECT tenant FROM audit_events WHERE kind = 2 AND key_id = $1 LIMIT 1"


@dataclass(slots=True)
class _Written:
    """Counts what it hands on."""

    sink: Sink
    events: int = 0
    messages: int = 0
    register: int = 0
    checkpoints: int = 0

    def write(self, record: Record) -> None:
        self.sink.write(record)
        if isinstance(record, StoredEvent):
            self.events += 1
        elif isinstance(record, ExportedMessage):
            self.messages += 1
        elif isinstance(record, RegisterRow):
            self.register += 1
        elif isinstance(record, PublishedCheckpoint):
            self.checkpoints += 1

    @property
    def end(self) -> End:
        return End(self.events, self.messages, self.register, self.checkpoints)


class Exporter:
    def __init__(
        self,
        engine: AsyncEngine,
        query: ExportQuery,
        public_keys: Iterable[str],
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`progress` is told of events and messages."""
        self._reader = LogReader(engine, query.part)
        self._chains = PartReader(engine, query.part)
        self._query = query
        self._tenant = query.tenant  # whose erasures are shown
        self._public_keys = tuple(public_keys)
        self._progress = progress

    async def run(self, sink: Sink, published: Iterable[bytes] = ()) -> End:
        """`published` are the checkpoints of the second place. Raises DatabaseUnavailable, and what
        the sink raises."""
        written = _Written(sink)
        if self._tenant is None and self._query.key_id is not None:
            self._tenant = await self._tenant_of(self._query.key_id)
        # Before the chains, each of which is then at least as long as this says.
        writers = await self._chains.writers()
        manifest = await self._manifest()
        written.write(manifest)
        since = self._query.part.since
        for row in await self._reader.register():
            written.write(row)
            # One that registered meanwhile: the file would say that its chain is missing.
            if since is None or (row.registered_at or 0) >= microseconds_of(since):
                writers.add(row.writer)
        for payload in published:
            if not _is_ahead(payload, manifest.shipped, writers):
                written.write(PublishedCheckpoint(payload))
        with MessageExport(self._reader, self._query, written.write, self._progress) as messages:
            for writer in sorted(writers):
                await self._export_chain(writer, written, messages)
            await messages.finish()
        for row in await self._reader.register():  # what the chains sign of it is there by now
            if row.number > written.register:
                written.write(row)
        sink.write(written.end)
        return written.end

    async def _tenant_of(self, key_id: str) -> str | None:
        """None where the key was never used."""
        rows = await self._reader.fetch(_TENANT_OF_KEY, key_id)
        return rows[0]["tenant"] if rows else None

    async def _manifest(self) -> Manifest:
        query = self._query
        return Manifest(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
            since=_text(query.part.since),
            until=_text(query.part.until),
            tenant=query.tenant,
            key=query.key_id,
            content=query.content,
            public_keys=self._public_keys,
            shipped=await self._reader.shipped(),
        )

    async def _export_chain(self, writer: str, written: _Written, messages: MessageExport) -> None:
        async for events in self._chains.chain(writer):
            shown = [self._shown(event) for event in events]
            for event in shown:
                written.write(event)
            await messages.follow(shown)
            self._progress(len(events))

    def _shown(self, event: StoredEvent) -> StoredEvent:
        if event.kind in _FOR_ALL:
            return event
        is_shown = event.kind == FrameKind.ERASURE or self._query.part.has(event.at)
        if is_shown and self._is_for_some:
            is_shown = self._is_theirs(event)
        return event if is_shown else replace(event, payload=None)

    @property
    def _is_for_some(self) -> bool:
        return self._query.tenant is not None or self._query.key_id is not None

    def _is_theirs(self, event: StoredEvent) -> bool:
        query = self._query
        assert event.payload is not None  # noqa: S101 - the database has it
        columns = columns_of(event.kind, event.payload)
        if event.kind == FrameKind.ERASURE:  # a tenant's, not a key's
            return bool(columns["tenant"] == self._tenant)
        return query.tenant in (None, columns["tenant"]) and query.key_id in (
            None,
            columns["key_id"],
        )


def _is_ahead(payload: bytes, shipped: Mapping[str, ChainHead], writers: set[str]) -> bool:
    """Whether it is of an event that may still be on its way into the database: a verification
    of the file, later, would miss that."""
    try:
        checkpoint = parse_checkpoint(payload)
    except CheckpointUnreadable:
        return False
    head = shipped.get(checkpoint.writer)
    age = datetime.now(UTC) - checkpoint.at
    is_fresh = age.total_seconds() < SHIPPING_SECONDS
    # What closes a chain is the event behind the one that it states.
    last = checkpoint.sequence + checkpoint.closed
    if head is None:  # shipped whole, and forgotten; or not begun to be
        return is_fresh and checkpoint.writer not in writers
    return is_fresh and head.sequence < last


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
