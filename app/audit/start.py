"""The audit log of this process, built from the settings and kept running."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from app.audit.checkpoints.keeper import CheckpointKeeper, closed_again, closing_frames
from app.audit.checkpoints.places import place_of
from app.audit.checkpoints.publisher import Publisher
from app.audit.checkpoints.signing import SigningKeys, derived_signing_keys, parse_signing_keys
from app.audit.content.answers import answers_of
from app.audit.content.nodes import TenantAddresses
from app.audit.content.redaction import Redaction
from app.audit.content.stored_today import StoredToday
from app.audit.open_metadata import OpenMetadata
from app.audit.recorder import Recorder
from app.audit.registration import registration
from app.audit.running_answer import Keeping
from app.audit.spool.directory import open_own
from app.audit.spool.disk import RealDisk
from app.audit.spool.log import SpoolLog
from app.audit.spool.shipper import Shipper
from app.audit.spool.writer import SpoolWriter
from app.settings import Settings, SettingsError
from app.store.database import create_engine
from app.telemetry.metrics import Metrics

DRAIN_SECONDS = 10.0  # for what is not shipped when the process ends; the rest waits on the disk
SHIPPER_CONNECTIONS = 1

log = structlog.get_logger()


def spool_root(settings: Settings) -> Path:
    """Below which each process has a directory of its own."""
    return settings.audit_directory or settings.home / "audit"


def signing_keys_of(settings: Settings, pepper: bytes) -> SigningKeys:
    """Raises SettingsError."""
    if settings.audit_signing_key is None:
        return derived_signing_keys(pepper)
    try:
        return parse_signing_keys(settings.audit_signing_key.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"GATEWAY_AUDIT_SIGNING_KEY: {error}") from None


def check_spool(settings: Settings) -> None:
    """Raises SettingsError where no spool can be made, before anything is started."""
    root = spool_root(settings)
    try:
        open_own(root).remove()
    except OSError as error:
        raise SettingsError(f"GATEWAY_AUDIT_DIRECTORY: cannot use {root}: {error}") from None


@asynccontextmanager
async def recording(
    settings: Settings,
    keys: SigningKeys,
    pepper: bytes,
    redaction: Callable[[], Redaction],
    metrics: Metrics,
) -> AsyncIterator[Recorder]:
    """At the end all that was recorded is on disk, signed, and shipped if the database takes it in
    time.

    Raises SettingsError where the directory or the second place cannot be used.
    """
    assert settings.database_url is not None  # noqa: S101 - create_app has seen to it
    root = spool_root(settings)
    place = place_of(settings.audit_checkpoints, root)
    disk = RealDisk()
    addresses = TenantAddresses(pepper)
    async with AsyncExitStack() as stack:
        try:
            own = open_own(root)
            stack.callback(own.close)
            writer = SpoolWriter(
                own.path, disk, segment_bytes=settings.audit_segment_bytes, writer=own.writer
            )
        except OSError as error:
            raise SettingsError(f"GATEWAY_AUDIT_DIRECTORY: cannot use {root}: {error}") from None
        spool = SpoolLog(writer, metrics, write_seconds=settings.audit_write_seconds)
        # Before all else, also on a disk that takes nothing yet: it is kept until that does.
        spool.offer([registration(own.writer, keys.public_key)], essential=True)
        engine = create_engine(
            settings.database_url.get_secret_value(), connections=SHIPPER_CONNECTIONS
        )
        stack.push_async_callback(engine.dispose)
        publisher = Publisher(place, metrics)
        shipper = Shipper(
            engine,
            own,
            writer,
            disk,
            flush_seconds=settings.audit_flush_seconds,
            metrics=metrics,
            answer_of=lambda *answer: answers_of(addresses, redaction())(*answer),
            closing=closing_frames(keys, publisher.offer),
            closed=closed_again(keys, publisher.offer),
        )
        stack.push_async_callback(shipper.drain, DRAIN_SECONDS)
        stack.push_async_callback(_close, writer)
        keeper = CheckpointKeeper(
            writer,
            keys,
            publisher,
            records=settings.audit_checkpoint_records,
            seconds=settings.audit_checkpoint_seconds,
            register=lambda: shipper.register_head,
            metrics=metrics,
        )
        stack.push_async_callback(keeper.close)
        open_metadata = OpenMetadata(spool, metrics, max_records=settings.audit_open_records)
        stack.callback(open_metadata.close)
        async with asyncio.TaskGroup() as background:
            tasks = [
                background.create_task(running)
                for running in (shipper.run(), keeper.run(), open_metadata.run())
            ]
            yield Recorder(
                spool,
                addresses,
                StoredToday(settings.audit_known_messages, time.time),  # noqa: TID251 - which day it is
                redaction,
                open_metadata,
                Keeping(
                    strict=settings.audit_strict,
                    chunk_seconds=settings.audit_chunk_seconds,
                    chunk_characters=settings.audit_chunk_characters,
                ),
                time.monotonic,
            )
            for task in tasks:
                task.cancel()


async def _close(writer: SpoolWriter) -> None:
    """A disk that hangs may not keep a process from ending; what it was given may be lost."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await writer.close()
    except TimeoutError:
        log.error("audit_spool_not_closed", waiting_bytes=writer.waiting_bytes)
