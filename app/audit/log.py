"""The audit log in Postgres, first form: records wait in memory and are written in batches.

A record is in the database some `flush_seconds` after it was handed over, and lost if the process
is killed before. While the database is away the records wait, up to a bound, and are tried again.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import AuditIntent, AuditOutcome
from app.audit.writer import Batch, BatchRefused, bounded_findings, write_batch
from app.telemetry.metrics import Metrics

# Of each kind; below 1 MB of JSON, and below 17 MB if all of them had the longest findings.
MAX_BATCH_RECORDS = 1000
FIRST_RETRY_SECONDS = 0.25
MAX_REASON_CHARACTERS = 300
MAX_RETRY_SECONDS = 5.0  # so long after its return, at most, is the database noticed

# Whatever they say, the records stay: only what the data itself is at fault for is set aside.
DATABASE_AWAY = (SQLAlchemyError, OSError)

log = structlog.get_logger()


class PostgresAuditLog:
    """Implements AuditLog. `run` writes until it is cancelled; `close` then writes the rest.

    `buffer_records` bounds the intents that wait, and the outcomes whose intents are written
    already. At the bound the newest records are given up, not the oldest: what was accepted stays
    whole, an outcome that belongs to a waiting intent always finds room, and the gap is one stretch
    of time that the log tells, instead of holes among the kept.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        flush_seconds: float,
        buffer_records: int,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._flush_seconds = flush_seconds
        self._buffer_records = buffer_records
        self._metrics = metrics
        self._clock = clock
        self._intents: dict[str, AuditIntent] = {}
        self._outcomes: dict[str, AuditOutcome] = {}
        self._batches: deque[Batch] = deque()  # taken, and not known to be written
        self._waiting = asyncio.Event()
        self._away_since: float | None = None
        self._lost = 0  # since the last line about it
        self._closed = False

    async def intent(self, record: AuditIntent) -> None:
        if self._closed or len(self._intents) >= self._buffer_records:
            self._lose(1)
            return
        self._intents[record.request_id] = record
        self._waiting.set()

    async def outcome(self, record: AuditOutcome) -> None:
        if self._closed or (
            len(self._outcomes) >= self._buffer_records and record.request_id not in self._intents
        ):
            self._lose(1)
            return
        if record.findings:  # bounded before they wait
            record = replace(record, findings=bounded_findings(record.findings))
        self._outcomes[record.request_id] = record
        self._waiting.set()

    @property
    def backlog_records(self) -> int:
        taken = sum(batch.records for batch in self._batches)
        return len(self._intents) + len(self._outcomes) + taken

    async def run(self) -> None:
        """Writes what waits, every `flush_seconds`. Ends only by cancellation, and loses nothing
        by it."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(self._flush_seconds)  # for a batch to gather
            self._waiting.clear()
            await self._write_all()

    async def close(self, timeout_seconds: float) -> None:
        """Writes what waits; what cannot be written in time is lost, and is said to be.

        Only after `run` has ended.
        """
        self._closed = True
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._write_all()
        except TimeoutError:
            self._lose(self.backlog_records)
            self._intents, self._outcomes = {}, {}
            self._batches.clear()
        self._report_lost()
        self._metrics.audit_backlog(0)

    async def _write_all(self) -> None:
        """Until nothing waits, however long the database is away."""
        failures = 0
        while self._batches or self._intents or self._outcomes:
            if not self._batches:
                self._batches.append(self._take())
            self._metrics.audit_backlog(self.backlog_records)
            try:
                await self._write(self._batches[0])
            except DATABASE_AWAY as error:
                if failures or not _only_stale(error):
                    self._went_away(error)
                    await asyncio.sleep(_retry_seconds(failures))
                failures += 1
            else:
                self._came_back()
                failures = 0
        self._metrics.audit_backlog(0)

    def _take(self) -> Batch:
        """The oldest intents with their outcomes, and outcomes of intents written before."""
        ids = dict.fromkeys(
            chain(
                islice(self._intents, MAX_BATCH_RECORDS), islice(self._outcomes, MAX_BATCH_RECORDS)
            )
        )
        return Batch(
            {key: self._intents.pop(key) for key in ids if key in self._intents},
            {key: self._outcomes.pop(key) for key in ids if key in self._outcomes},
        )

    async def _write(self, batch: Batch) -> None:
        """Writes the first batch, or replaces it by its halves, or sets its one row aside."""
        try:
            await write_batch(self._engine, batch)
        except BatchRefused as refused:
            self._batches.popleft()
            if len(batch.request_ids) > 1:
                self._batches.extendleft(reversed(batch.halves()))
            else:
                self._set_aside(batch, refused)
        else:
            self._batches.popleft()
            self._metrics.audit_written(batch.records)

    def _set_aside(self, batch: Batch, refused: BatchRefused) -> None:
        """The line holds the record: from there it can still be had."""
        records = [*batch.intents.values(), *batch.outcomes.values()]
        self._metrics.audit_lost(batch.records)
        log.error(
            "audit_record_set_aside",
            request_id=batch.request_ids[0],
            reason=str(refused),
            records=repr(records),
        )

    def _lose(self, records: int) -> None:
        if not records:
            return
        self._metrics.audit_lost(records)
        if not self._lost:
            log.error("audit_records_are_lost", backlog_records=self.backlog_records)
        self._lost += records

    def _report_lost(self) -> None:
        if self._lost:
            log.error("audit_records_were_lost", records=self._lost)
            self._lost = 0

    def _went_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = self._clock()
            log.error(
                "audit_database_away",
                reason=_reason(error),
                backlog_records=self.backlog_records,
            )

    def _came_back(self) -> None:
        if self._away_since is not None:
            away_seconds = round(self._clock() - self._away_since, 1)
            log.warning("audit_database_back", away_seconds=away_seconds)
            self._away_since = None
        self._report_lost()


def _retry_seconds(failures: int) -> float:
    """Doubling, and spread, so that replicas do not all come back at once."""
    delay = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16), MAX_RETRY_SECONDS)
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _only_stale(error: Exception) -> bool:
    """A pooled connection had died in its sleep. A new one may well be had at once."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _reason(error: Exception) -> str:
    """Without the statement and its parameters, which SQLAlchemy adds to the text."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}"[:MAX_REASON_CHARACTERS]
