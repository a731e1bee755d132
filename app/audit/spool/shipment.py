"""One spool on its way to the database, a batch a transaction."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.records import AuditIntent, AuditOutcome
from app.audit.spool.backlog import MAX_BATCH_RECORDS, Backlog, SpooledRecord
from app.audit.spool.cursor import START, Committed
from app.audit.spool.directory import OwnDirectory
from app.audit.spool.disk import Disk
from app.audit.spool.offsets import OffsetMoved, forget_offset, move_offset, shipped_offset
from app.audit.spool.segments import Position, list_segments, segment_path
from app.audit.spool.set_aside import SetAside
from app.audit.writer import Batch, BatchRefused, write_batch
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
    ) -> None:
        self.directory = directory
        self.set_aside = SetAside(directory.path, directory.writer, disk)
        # What of it is already in the database is only known once that was asked.
        self.backlog = Backlog(directory.path, disk, committed)
        self._engine = engine
        self._disk = disk
        self._committed = committed
        self._metrics = metrics
        # What the row in the database says, None for no row. Not to be relied on before it was
        # asked, and while a transaction's fate is unknown.
        self._offset: Position | None = None
        self._offset_known = False
        self._in_doubt = False  # whether records were sent whose commit was not heard of
        self._size = MAX_BATCH_RECORDS
        self._suspects = 0  # of the first so many records at least one is refused
        self._alarmed: Position | None = None  # of the record that was set aside last
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

    async def remove_shipped(self, now: float) -> None:
        """`now`: wall-clock seconds since the epoch. Raises SpoolFailed."""
        await self._on_disk(self.backlog.remove_shipped, now)

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
        if (offset or START) < (self._offset or START):  # a copy of an earlier time
            log.error("audit_spool_offset_went_back", writer=self.directory.writer)
            self.backlog = Backlog(
                self.directory.path, self._disk, self._committed, offset or START
            )
        elif offset is not None:
            dropped = self.backlog.shipped_up_to(offset)
            if self._in_doubt:  # it did go through
                self._metrics.audit_written(dropped)
        if offset != self._offset:
            self._suspects = 0
        self._offset, self._offset_known, self._in_doubt = offset, True, False

    async def _ship(self, batch: list[SpooledRecord]) -> None:
        try:
            await self._write(batch)
        except BatchRefused as refused:
            self._offset_known, self._in_doubt = True, False  # it was undone
            self._suspects = len(batch)
            if len(batch) > 1:
                return
            await self._put_aside(batch[0], str(refused))
        else:
            self._size = min(2 * self._size, MAX_BATCH_RECORDS)
        self._suspects = max(0, self._suspects - len(batch))

    async def _write(self, batch: list[SpooledRecord]) -> None:
        """The records, and that they are shipped. Raises BatchRefused."""
        problem = next((each.problem for each in batch if each.record is None), None)
        if problem is not None:
            raise BatchRefused(problem)
        before, after = self._offset, batch[-1].found.end

        async def move(connection: AsyncConnection) -> None:
            await move_offset(connection, self.directory.writer, before, after)

        self._offset_known, self._in_doubt = False, True
        await write_batch(self._engine, _as_batch(batch), first=move)
        self._shipped(after)
        self._metrics.audit_written(len(batch))

    async def _put_aside(self, spooled: SpooledRecord, reason: str) -> None:
        """First into the file, then out of the spool."""
        await self._on_disk(self.set_aside.keep, spooled, reason)
        self._alarm(spooled, reason)
        after = spooled.found.end
        self._offset_known = False
        async with self._engine.begin() as connection:
            await move_offset(connection, self.directory.writer, self._offset, after)
        self._shipped(after)

    def _alarm(self, spooled: SpooledRecord, reason: str) -> None:
        """Once, also where the record is set aside again because the database did not answer."""
        start = spooled.found.start
        if start == self._alarmed:
            return
        self._alarmed = start
        self._metrics.audit_set_aside(1)
        log.error(
            "audit_record_set_aside",
            request_id=spooled.record.request_id if spooled.record is not None else None,
            reason=reason,
            writer=self.directory.writer,
            segment=start.segment,
            offset=start.offset,
        )

    def _shipped(self, position: Position) -> None:
        self._offset, self._offset_known, self._in_doubt = position, True, False
        self.backlog.shipped_up_to(position)

    async def _on_disk(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(step, *args, **kwargs)
        except OSError as error:
            raise SpoolFailed(f"{self.directory.path}: {error.strerror or error}") from error

    def _remove_segments(self) -> None:
        for number in list_segments(self._disk, self.directory.path):
            self._disk.remove(segment_path(self.directory.path, number))


def _as_batch(spooled: list[SpooledRecord]) -> Batch:
    """One of each kind a request: what was written again after a failed sync may come twice."""
    intents = (each.record for each in spooled if isinstance(each.record, AuditIntent))
    outcomes = (each.record for each in spooled if isinstance(each.record, AuditOutcome))
    return Batch(
        {record.request_id: record for record in intents},
        {record.request_id: record for record in outcomes},
    )
