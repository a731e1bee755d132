"""The audit log of this process, built from the settings and kept running."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from app.audit.spool.directory import open_own
from app.audit.spool.disk import RealDisk
from app.audit.spool.log import SpooledAuditLog
from app.audit.spool.shipper import Shipper
from app.audit.spool.writer import SpoolWriter
from app.settings import Settings, SettingsError
from app.store.database import create_engine
from app.telemetry.metrics import Metrics

DRAIN_SECONDS = 10.0  # for what is not shipped when the process ends; the rest waits on the disk
SHIPPER_CONNECTIONS = 1

log = structlog.get_logger()


async def _close(writer: SpoolWriter) -> None:
    """A disk that hangs may not keep a process from ending; what it was given may be lost."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await writer.close()
    except TimeoutError:
        log.error("audit_spool_not_closed", waiting_bytes=writer.waiting_bytes)


def spool_root(settings: Settings) -> Path:
    """Below which each process has a directory of its own."""
    return settings.audit_directory or settings.home / "audit"


def check_spool(settings: Settings) -> None:
    """Raises SettingsError where no spool can be made, before anything is started."""
    root = spool_root(settings)
    try:
        open_own(root).remove()
    except OSError as error:
        raise SettingsError(f"GATEWAY_AUDIT_DIRECTORY: cannot use {root}: {error}") from None


@asynccontextmanager
async def spooling(settings: Settings, metrics: Metrics) -> AsyncIterator[SpooledAuditLog]:
    """At the end all that was recorded is on disk, and shipped if the database takes it in time.

    Raises SettingsError where the directory cannot be used.
    """
    assert settings.database_url is not None  # noqa: S101 - create_app has seen to it
    root = spool_root(settings)
    disk = RealDisk()
    async with AsyncExitStack() as stack:
        try:
            own = open_own(root)
            stack.callback(own.close)
            writer = SpoolWriter(own.path, disk, segment_bytes=settings.audit_segment_bytes)
        except OSError as error:
            raise SettingsError(f"GATEWAY_AUDIT_DIRECTORY: cannot use {root}: {error}") from None
        engine = create_engine(
            settings.database_url.get_secret_value(), connections=SHIPPER_CONNECTIONS
        )
        stack.push_async_callback(engine.dispose)
        shipper = Shipper(
            engine,
            own,
            writer,
            disk,
            flush_seconds=settings.audit_flush_seconds,
            metrics=metrics,
        )
        stack.push_async_callback(shipper.drain, DRAIN_SECONDS)
        stack.push_async_callback(_close, writer)
        async with asyncio.TaskGroup() as background:
            shipping = background.create_task(shipper.run())
            yield SpooledAuditLog(writer, metrics, write_seconds=settings.audit_write_seconds)
            shipping.cancel()
