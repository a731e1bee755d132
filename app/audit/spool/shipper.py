"""From the spools of this volume to Postgres: our own, and those that dead processes have left."""

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.answers import AnswerOf
from app.audit.register import RegisterHead
from app.audit.spool.cursor import Committed, WriterGone
from app.audit.spool.directory import OwnDirectory, abandoned
from app.audit.spool.disk import Disk
from app.audit.spool.recovery import Closed, Closing, recover
from app.audit.spool.shipment import Shipment, SpoolFailed
from app.audit.spool.upkeep import Upkeep
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from app.store.transaction import DATABASE_ERRORS, is_stale, reason_of
from app.telemetry.metrics import Metrics

FIRST_RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 5.0  # so long after its return, at most, is the database noticed

# A process that died is noticed so much later. Each look costs a lock for each directory.
ADOPT_SECONDS = 30.0

log = structlog.get_logger()


class Shipper:
    """`run` ships until it is cancelled; `drain` then ships what `run` has not.

    `engine` is the shipper's alone: a connection is enough, and a shipper that waits for the
    database then takes none from the requests.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        own: OwnDirectory,
        writer: SpoolWriter,
        disk: Disk,
        *,
        flush_seconds: float,
        metrics: Metrics,
        answer_of: AnswerOf,
        closing: Closing | None = None,
        closed: Closed = lambda checkpoint: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,  # noqa: TID251 - compared with dates of records
    ) -> None:
        """`answer_of`, `closing` and `closed` are for recovering what dead processes have left.
        `clock` is monotonic; `now` gives wall-clock seconds since the epoch."""
        self._engine = engine
        self._root = own.path.parent
        self._writer = writer
        self._disk = disk
        self._flush_seconds = flush_seconds
        self._metrics = metrics
        self._answer_of = answer_of
        self._closing = closing
        self._closed = closed
        self._clock = clock
        self._now = now
        self._upkeep = Upkeep(engine, clock, now)
        self._own = self._shipment(own, writer)
        self._found: list[OwnDirectory] = []  # taken over, and not recovered yet
        self._adopted: list[Shipment] = []
        self._next_look = clock()
        self._failures = 0  # of the database, in a row
        self._away_since: float | None = None
        self._failed: set[Path] = set()  # directories that the disk does not give back, or not all

    @property
    def register_head(self) -> RegisterHead | None:
        """The number and the hash of the newest row of the register that is known."""
        return self._upkeep.register_head

    async def run(self) -> None:
        """Ends only by cancellation, and loses nothing by it."""
        while True:
            await self._upkeep.see_to_what_is_due()
            if self._clock() >= self._next_look:
                self._next_look = self._clock() + ADOPT_SECONDS
                await self._adopt()
            more = False
            for shipment in (self._own, *self._adopted):
                more |= await self._ship(shipment)
            await self._report(behind=more)
            if not more:
                await self._wait()

    async def drain(self, timeout_seconds: float) -> bool:
        """Ships what is left of our own spool, and removes that. False where something stays: it
        is shipped by whoever starts next below the same root.

        Only after `run` has ended and the writer is closed.
        """
        shipped = False
        try:
            async with asyncio.timeout(timeout_seconds):
                while await self._ship(self._own):
                    pass
                shipped = self._own.directory.path not in self._failed
                if shipped and not self._own.backlog.open_intents:  # those wait for a recovery
                    await self._own.remove(heir=None)
        except (TimeoutError, SpoolFailed, *DATABASE_ERRORS) as error:
            reason = "not in time" if isinstance(error, TimeoutError) else str(error)
            log.warning("audit_spool_left_behind", reason=reason)
        finally:
            for directory in (*self._found, *(each.directory for each in self._adopted)):
                directory.close()
        await self._report(behind=not shipped)
        return shipped

    async def _adopt(self) -> None:
        """Takes over what dead processes have left, and ends their requests."""
        try:
            await asyncio.to_thread(self._look)
        except OSError as error:
            self._tell_failure(self._root, error)
        for directory in self._found.copy():
            try:
                await recover(
                    directory.path,
                    self._disk,
                    answer_of=self._answer_of,
                    closing=self._closing,
                    closed=self._closed,
                    now=self._now,
                )
            except (OSError, SpoolUnavailable) as error:
                self._tell_failure(directory.path, error)
            except Exception as error:  # noqa: BLE001 - or one dead spool would end every gateway
                self._tell_defect(directory.path, error)
            else:
                self._failed.discard(directory.path)
                self._found.remove(directory)
                self._adopted.append(self._shipment(directory, WriterGone()))

    def _shipment(self, directory: OwnDirectory, committed: Committed) -> Shipment:
        registered = self._upkeep.registered
        return Shipment(
            self._engine,
            directory,
            self._disk,
            committed,
            self._metrics,
            registered=registered,
            clock=self._clock,
        )

    def _look(self) -> None:
        # In the thread, so that a cancelled caller does not lose what is locked.
        self._found += abandoned(self._root)
        self._metrics.audit_spool_free(disk_usage(self._root).free)

    async def _ship(self, shipment: Shipment) -> bool:
        """False where nothing waits, or what waits cannot be read now."""
        path = shipment.directory.path
        try:
            shipped = await shipment.ship_next()
            if shipped:
                await shipment.remove_shipped()
            elif shipment is not self._own:
                await shipment.remove(heir=self._own.set_aside)
                self._adopted.remove(shipment)
        except SpoolFailed as error:
            self._tell_failure(path, error)
            return False
        except DATABASE_ERRORS as error:
            await self._wait_for_database(error)
            return True
        self._failed.discard(path)
        self._came_back()
        return shipped

    async def _wait(self) -> None:
        """Until something is committed and a batch has gathered, or it is time to look around."""
        with suppress(TimeoutError):  # it is time
            async with asyncio.timeout(self._next_look - self._clock()):
                await self._writer.advanced.wait()
        await asyncio.sleep(self._flush_seconds)
        self._writer.advanced.clear()

    async def _wait_for_database(self, error: Exception) -> None:
        # A pooled connection may have died in its sleep: a new one is perhaps had at once.
        if self._failures or not (isinstance(error, DBAPIError) and is_stale(error)):
            if self._away_since is None:
                self._away_since = self._clock()
                log.error("audit_database_away", reason=reason_of(error))
            await self._report(behind=True)
            await asyncio.sleep(retry_seconds(self._failures))
        self._failures += 1

    def _came_back(self) -> None:
        self._failures = 0
        if self._away_since is not None:
            away_seconds = round(self._clock() - self._away_since, 1)
            log.warning("audit_database_back", away_seconds=away_seconds)
            self._away_since = None

    def _tell_failure(self, path: Path, error: Exception) -> None:
        """Once, until it has passed."""
        if path not in self._failed:
            self._failed.add(path)
            log.error("audit_spool_unreadable", directory=str(path), reason=str(error))

    def _tell_defect(self, path: Path, error: Exception) -> None:
        """Once, until it has passed; without the error's own words, which may quote a text."""
        if path not in self._failed:
            self._failed.add(path)
            log.error(
                "audit_spool_not_recovered",
                directory=str(path),
                error=type(error).__name__,
                traceback="".join(traceback.format_tb(error.__traceback__)),
            )

    async def _report(self, *, behind: bool) -> None:
        """The figures. Where we are not `behind`, all that waits is at hand."""
        records = in_bytes = 0
        oldest = now = self._now()
        for shipment in (self._own, *self._adopted):
            if behind:
                with suppress(SpoolFailed):  # told where it is read
                    await shipment.count()
            records += shipment.backlog.records
            in_bytes += shipment.backlog.in_bytes
            oldest = min(oldest, shipment.waiting_since(now))
        self._metrics.audit_backlog(records, in_bytes=in_bytes, oldest_seconds=now - oldest)


def retry_seconds(failures: int) -> float:
    """After so many others. Doubling, and spread, so that replicas do not all come back at once."""
    delay = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16), MAX_RETRY_SECONDS)
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
