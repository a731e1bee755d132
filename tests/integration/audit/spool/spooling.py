"""A gateway's spool and its shipper, without the gateway."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.nodes import ROOT, TenantAddresses, message_payload
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.directory import OwnDirectory, open_own
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.spool.shipper import Shipper
from app.audit.spool.writer import SpoolWriter
from app.telemetry.metrics import Metrics
from tests.integration.audit.logged import NOW

SEGMENT_BYTES = 64 * 1024
FLUSH_SECONDS = 0.005
DEADLINE_SECONDS = 60.0  # only spent on failure
POISON = "poison"  # an error_code that the database of these tests refuses
ADDRESSES = TenantAddresses(b"pepper")

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
        await self.append_frames(*map(frame_of, records))

    async def append_frames(self, *frames: Frame) -> None:
        """Each by itself."""
        await asyncio.gather(*(self.writer.append([frame]) for frame in frames))

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
    recorded_at: float = NOW,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Spooling]:
    """`ship`: the shipper runs until the block ends. The rest stays as it is for whoever comes."""
    own = open_own(root)
    disk = RealDisk() if disk is None else disk
    registry = CollectorRegistry()
    writer = SpoolWriter(
        own.path,
        disk,
        writer=own.writer,
        segment_bytes=segment_bytes,
        now=lambda: recorded_at,
    )
    shipper = Shipper(
        engine,
        own,
        writer,
        disk,
        flush_seconds=FLUSH_SECONDS,
        metrics=Metrics(registry),
        answer_of=no_answer,
        clock=clock,
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


def no_answer(tenant: str, parent: bytes, body: bytes) -> tuple[bytes, bytes]:
    raise AssertionError("no chunk is recorded here")


def frame_of(record: Record) -> Frame:
    if isinstance(record, AuditIntent):
        return Frame(FrameKind.INTENT, encode_intent(record))
    return Frame(FrameKind.OUTCOME, encode_outcome(record))


def message(body: bytes, tenant: str = "acme") -> Frame:
    """The first of a conversation."""
    return Frame(FrameKind.MESSAGE, message_payload(ADDRESSES.node(tenant, ROOT, body), tenant))


def intent(request_id: str, received_at: float = NOW) -> AuditIntent:
    return AuditIntent(request_id, received_at=received_at, route="/v1/chat/completions")


def outcome(request_id: str) -> AuditOutcome:
    return AuditOutcome(request_id, Outcome.COMPLETED, 200)


def requests(count: int, name: str = "req") -> list[Record]:
    """Of each its intent and its outcome."""
    ids = [f"{name}_{number:05}" for number in range(count)]
    return [record for each in ids for record in (intent(each), outcome(each))]


def poison(request_id: str) -> AuditOutcome:
    return AuditOutcome(request_id, Outcome.COMPLETED, 200, error_code=POISON)


async def query(engine: AsyncEngine, statement: str) -> list[tuple[object, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def outcomes(engine: AsyncEngine) -> dict[object, object]:
    return dict(await query(engine, "SELECT request_id, outcome FROM audit_records"))  # type: ignore[arg-type]  # pairs


async def times_written(engine: AsyncEngine) -> dict[object, object]:
    """How often the database was given an event of each request: the one that it was given most."""
    return dict(
        await query(
            engine,
            "SELECT request_id, max(times) FROM "
            "(SELECT request_id, count(*) AS times FROM row_writes GROUP BY request_id, kind) AS n "
            "GROUP BY request_id",
        )  # type: ignore[arg-type]  # pairs
    )
