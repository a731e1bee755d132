"""One spool on its way to the database, a batch a transaction."""

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.chain import GENESIS, ChainHead
from app.audit.partitions import make_partition
from app.audit.register import RegisterHead, register
from app.audit.spool.backlog import MAX_BATCH_RECORDS, Backlog
from app.audit.spool.cursor import START, Committed
from app.audit.spool.directory import OwnDirectory
from app.audit.spool.disk import Disk
from app.audit.spool.frames import FrameKind
from app.audit.spool.offsets import (
    OffsetMoved,
    Shipped,
    forget_offset,
    move_offset,
    shipped_offset,
)
from app.audit.spool.segments import Position, list_segments, segment_path
from app.audit.spool.set_aside import SetAside
from app.audit.spool.spooled_record import SpooledRecord
from app.audit.stored import Batch, BatchRefused, PartitionMissing, Row, store, storing
from app.telemetry.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class SpoolFailed(Exception):
    """The disk does not give back what is on it, or takes nothing."""


class Shipment:
    """Of a directory that is ours. One call at a time; after a failure or a cancellation any of
    them may be called again, and asks the database first how far it got."""

    def __init__(
        self,
        engine: AsyncEngine,
        directory: OwnDirectory,
        disk: Disk,
        committed: Committed,
        metrics: Metrics,
        *,
        registered: Callable[[RegisterHead], None] = lambda head: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`registered` is told the newest row of the register when this has made one; `clock` is
        monotonic."""
        self.directory = directory
        self.set_aside = SetAside(directory.path, directory.writer, disk)
        # What of it is already in the database is only known once that was asked.
        self.backlog = Backlog(directory.path, disk, committed, clock=clock)
        self._clock = clock
        self._engine = engine
        self._disk = disk
        self._committed = committed
        self._metrics = metrics
        self._registered = registered
        # What the row in the database says, None for no row. Not to be relied on before it was
        # asked, and while a transaction's fate is unknown.
        self._offset: Shipped | None = None
        self._offset_known = False
        self._in_doubt = False  # whether records were sent whose commit was not heard of
        self._size = MAX_BATCH_RECORDS
        self._suspects = 0  # of the first so many records at least one is refused
        self._alarmed: Position | None = None  # of the record that was set aside last
        self._broken = START  # where the chain last did not go on
        self._waiting_since: float | None = None

    async def ship_next(self) -> bool:
        """One batch into the database, or one record aside. False where nothing waits.

        Raises SpoolFailed, and what the database's absence raises; nothing is lost by either.
        """
        if not self._offset_known:
            await self._ask()
        await self._on_disk(self.backlog.fill)
        batch = self.backlog.first(max(1, self._suspects // 2) if self._suspects else self._size)
        if not batch:
            return False
        try:
            await self._ship(batch)
        except OffsetMoved as moved:
            log.warning("audit_spool_offset_moved", reason=str(moved))
        except TimeoutError:
            self._size = max(1, len(batch) // 2)  # what is too slow as a whole may pass in parts
            raise
        return True

    async def remove_shipped(self) -> None:
        """Raises SpoolFailed."""
        await self._on_disk(self.backlog.remove_shipped)

    async def remove(self, heir: SetAside | None) -> None:
        """The directory, once everything in it is shipped and nobody writes there. `heir` keeps
        what was set aside; without one, a directory where something was stays.

        Raises SpoolFailed, and what the database's absence raises.
        """
        if heir is not None:
            await self._on_disk(heir.take_over, self.directory.path)
        await self._on_disk(self._remove_segments)
        await forget_offset(self._engine, self.directory.writer)
        if not self.set_aside.path.exists():
            await self._on_disk(self.directory.remove)

    async def count(self) -> None:
        """Brings the backlog's figures up to date, as far as it is known what is shipped. Raises
        SpoolFailed."""
        await self._on_disk(self.backlog.fill)
        await self._on_disk(self.backlog.count)

    def waiting_since(self, now: float) -> float:
        """When what waits longest came, as far as that is known; `now` where nothing waits. Both
        in wall-clock seconds since the epoch."""
        if not self.backlog.records:
            self._waiting_since = None
            return now
        self._waiting_since = self.backlog.oldest or self._waiting_since or now
        return self._waiting_since

    async def _ask(self) -> None:
        """How far it is shipped, as the database says."""
        offset = await shipped_offset(self._engine, self.directory.writer)
        if _position(offset) < _position(self._offset):  # a copy of an earlier time
            log.error("audit_spool_offset_went_back", writer=self.directory.writer)
            self.backlog = Backlog(
                self.directory.path, self._disk, self._committed, _position(offset), self._clock
            )
        elif offset is not None:
            dropped = self.backlog.shipped_up_to(offset.position)
            if self._in_doubt:  # it did go through
                self._metrics.audit_written(dropped)
        if offset != self._offset:
            self._suspects = 0
        self._offset, self._offset_known, self._in_doubt = offset, True, False

    async def _ship(self, batch: list[SpooledRecord]) -> None:
        self._check_chain(batch)
        try:
            await self._write(batch)
        except BatchRefused as refused:
            self._undone()
            self._suspects = len(batch)
            if len(batch) > 1:
                return
            await self._put_aside(batch[0], str(refused))
        else:
            self._size = min(2 * self._size, MAX_BATCH_RECORDS)
        self._suspects = max(0, self._suspects - len(batch))

    async def _write(self, batch: list[SpooledRecord]) -> None:
        """The records, and that they are shipped. Raises BatchRefused."""
        problem = next((each.problem for each in batch if each.row is None), None)
        if problem is not None:
            raise BatchRefused(problem)
        rows = _as_batch(batch)
        try:
            await self._store(batch, rows)
        except PartitionMissing:
            self._undone()
            for day in sorted(rows.days):
                await make_partition(self._engine, day)
            try:
                await self._store(batch, rows)
            except PartitionMissing as missing:  # it was dropped meanwhile: nothing to set aside
                raise missing.cause from missing
        self._shipped(batch[-1])
        self._metrics.audit_written(len(batch))

    async def _store(self, batch: list[SpooledRecord], rows: Batch) -> None:
        writer, head = self.directory.writer, None
        self._offset_known, self._in_doubt = False, True
        async with storing(self._engine) as connection:
            await self._move_offset(connection, batch[-1])
            await store(connection, rows)
            for each in batch:
                if each.found.kind == FrameKind.REGISTRATION:
                    made = await register(connection, writer, each.chain, each.found.at)
                    head = made or head
        if head is not None:
            self._registered(head)

    async def _put_aside(self, spooled: SpooledRecord, reason: str) -> None:
        """First into the file, then out of the spool."""
        await self._on_disk(self.set_aside.keep, spooled, reason)
        self._alarm(spooled, reason)
        self._offset_known = False
        async with self._engine.begin() as connection:
            await self._move_offset(connection, spooled)
        self._shipped(spooled)

    async def _move_offset(self, connection: AsyncConnection, last: SpooledRecord) -> None:
        before = None if self._offset is None else self._offset.position
        await move_offset(connection, self.directory.writer, before, last.found.end, last.chain)

    def _check_chain(self, batch: list[SpooledRecord]) -> None:
        """Tells where it does not go on: what follows there is shipped as the disk has it."""
        expected: ChainHead | None = GENESIS if self._offset is None else self._offset.chain
        for each in batch:
            start = each.found.start
            # Once, also where the batch is tried again.
            if expected not in (None, each.before) and start > self._broken:
                self._broken = start
                self._metrics.audit_chain_broken()
                log.error(
                    "audit_chain_broken",
                    reason=(
                        "records were changed on the disk"
                        if expected is not None and expected.sequence == each.before.sequence
                        else "records are missing on the disk"
                    ),
                    hint="gateway audit verify tells which",
                    writer=self.directory.writer,
                    segment=start.segment,
                    offset=start.offset,
                    expected_sequence=expected.sequence if expected else None,
                    found_sequence=each.before.sequence,
                )
            expected = each.chain

    def _alarm(self, spooled: SpooledRecord, reason: str) -> None:
        """Once, also where the record is set aside again because the database did not answer."""
        start = spooled.found.start
        if start == self._alarmed:
            return
        self._alarmed = start
        self._metrics.audit_set_aside(1)
        log.error(
            "audit_record_set_aside",
            request_id=spooled.request_id,
            reason=reason,
            writer=self.directory.writer,
            segment=start.segment,
            offset=start.offset,
        )

    def _shipped(self, last: SpooledRecord) -> None:
        self._offset = Shipped(last.found.end, last.chain)
        self._offset_known, self._in_doubt = True, False
        self.backlog.shipped_up_to(last.found.end)

    def _undone(self) -> None:
        """The transaction's fate is known: nothing of it was written."""
        self._offset_known, self._in_doubt = True, False

    async def _on_disk(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(step, *args, **kwargs)
        except OSError as error:
            raise SpoolFailed(f"{self.directory.path}: {error.strerror or error}") from error

    def _remove_segments(self) -> None:
        for number in list_segments(self._disk, self.directory.path):
            self._disk.remove(segment_path(self.directory.path, number))


def _as_batch(spooled: list[SpooledRecord]) -> Batch:
    events: list[Row] = []
    messages: list[Row] = []
    for each in spooled:
        if each.row is not None:
            rows = messages if each.found.kind == FrameKind.MESSAGE else events
            rows.append(each.row)
    return Batch(events, messages)


def _position(offset: Shipped | None) -> Position:
    return START if offset is None else offset.position
