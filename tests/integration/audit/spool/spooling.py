"""A gateway's spool and its shipper, without the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.directory import OwnDirectory, open_own
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import FrameKind, encode
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.spool.shipper import Shipper
from app.audit.spool.writer import SpoolWriter
from app.telemetry.metrics import Metrics

SEGMENT_BYTES = 64 * 1024
FLUSH_SECONDS = 0.005
DEADLINE_SECONDS = 20.0
NOW = 1_700_000_100.0  # shortly after the records were received

Record = AuditIntent | AuditOutcome


@dataclass(frozen=True)
class Spooling:
    """What a process has of its audit log."""

    own: OwnDirectory
    writer: SpoolWriter
    shipper: Shipper
    registry: CollectorRegistry

    def counted(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)

    @property
    def written(self) -> float | None:
        return self.counted("gateway_audit_records_total")

    @property
    def set_aside(self) -> float | None:
        return self.counted("gateway_audit_records_set_aside_total")

    @property
    def figures(self) -> tuple[float | None, float | None, float | None]:
        """Records and bytes that wait, and for how many seconds the oldest has."""
        return (
            self.counted("gateway_audit_backlog_records"),
            self.counted("gateway_audit_backlog_bytes"),
            self.counted("gateway_audit_oldest_unshipped_seconds"),
        )

    @property
    def segments(self) -> list[str]:
        return sorted(path.stem for path in self.own.path.glob("*.spool"))

    async def append(self, *records: Record) -> None:
        """All at once; durable on return."""
        await asyncio.gather(*(self.writer.append(frame_of(record)) for record in records))

    async def die(self) -> None:
        """As far as anybody below the same root can tell."""
        await self.writer.close()
        self.own.close()

    async def drain(self) -> bool:
        await self.writer.close()
        return await self.shipper.drain(DEADLINE_SECONDS)


@asynccontextmanager
async def spooling(
    root: Path,
    engine: AsyncEngine,
    *,
    disk: Disk | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    ship: bool = True,
) -> AsyncIterator[Spooling]:
    """`ship`: the shipper runs until the block ends. The rest stays as it is for whoever comes."""
    own = open_own(root)
    disk = RealDisk() if disk is None else disk
    registry = CollectorRegistry()
    writer = SpoolWriter(own.path, disk, segment_bytes=segment_bytes)
    shipper = Shipper(
        engine,
        own,
        writer,
        disk,
        flush_seconds=FLUSH_SECONDS,
        metrics=Metrics(registry),
        now=lambda: NOW,
    )
    process = Spooling(own, writer, shipper, registry)
    try:
        if not ship:
            yield process
            return
        async with asyncio.TaskGroup() as group:
            task = group.create_task(shipper.run())
            try:
                yield process
            finally:
                task.cancel()
    finally:
        await process.die()


def frame_of(record: Record) -> bytes:
    if isinstance(record, AuditIntent):
        return encode(FrameKind.INTENT, encode_intent(record))
    return encode(FrameKind.OUTCOME, encode_outcome(record))


def intent(request_id: str, received_at: float = NOW) -> AuditIntent:
    return AuditIntent(request_id, received_at=received_at, route="/v1/chat/completions")


def outcome(request_id: str) -> AuditOutcome:
    return AuditOutcome(request_id, Outcome.COMPLETED, 200)


def requests(count: int) -> list[Record]:
    """Of each its intent and its outcome."""
    ids = [f"req_{number:05}" for number in range(count)]
    return [record for each in ids for record in (intent(each), outcome(each))]


def poison(request_id: str) -> AuditOutcome:
    """An outcome that no column can hold."""
    return AuditOutcome(request_id, Outcome.COMPLETED, status=2**40)


async def query(engine: AsyncEngine, statement: str) -> list[tuple[object, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def outcomes(engine: AsyncEngine) -> dict[object, object]:
    return dict(await query(engine, "SELECT request_id, outcome FROM audit_records"))  # type: ignore[arg-type]  # pairs


async def times_written(engine: AsyncEngine) -> dict[object, object]:
    """How many committed statements have written each row."""
    return dict(
        await query(engine, "SELECT request_id, count(*) FROM row_writes GROUP BY request_id")  # type: ignore[arg-type]  # pairs
    )
