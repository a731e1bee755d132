"""Events of a command, which has no spool of its own: a chain of a few, shipped at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.keeper import CheckpointKeeper
from app.audit.checkpoints.places import place_of
from app.audit.checkpoints.publisher import Publisher
from app.audit.checkpoints.signing import SigningKeys
from app.audit.register import RegisterHead, register_head
from app.audit.registration import registration
from app.audit.spool.directory import OwnDirectory, open_own
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import Frame
from app.audit.spool.shipment import Shipment, SpoolFailed
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from app.audit.start import spool_root
from app.errors import Unavailable
from app.settings import Settings, SettingsError
from app.store.transaction import DATABASE_ERRORS, reason_of
from app.telemetry.metrics import Metrics

SEGMENT_BYTES = 1024 * 1024  # for a few events; a longer one gets a segment of its own
WRITE_SECONDS = 10.0  # a person waits for it; a disk that takes longer hangs
SHIP_SECONDS = 10.0  # then they are left to the next process below the same root

Note = Callable[[Frame], Awaitable[None]]

log = structlog.get_logger()


@asynccontextmanager
async def noting(settings: Settings, engine: AsyncEngine, keys: SigningKeys) -> AsyncIterator[Note]:
    """Gives what records an event: durable on return, or Unavailable.

    At the end the chain is signed, closed, and in the database. Raises Unavailable where that does
    not take it: what the event says is then not to be done, for the directory of a command may be
    gone before a process below the same root ships it.

    Raises SettingsError where the directory or the second place cannot be used.
    """
    place = place_of(settings.audit_checkpoints, root := spool_root(settings))
    metrics = Metrics()  # nobody asks for them
    disk = RealDisk()
    async with AsyncExitStack() as stack:
        try:
            own = open_own(root)
            stack.callback(own.close)
            writer = SpoolWriter(
                own.path, disk, writer=own.writer, segment_bytes=SEGMENT_BYTES, reserve_segments=0
            )
        except OSError as error:
            raise SettingsError(f"GATEWAY_AUDIT_DIRECTORY: cannot use {root}: {error}") from None
        shipment = Shipment(engine, own, disk, writer, metrics)
        stack.push_async_callback(_ship, shipment, own)
        stack.push_async_callback(_close, writer)
        known = await _register_head(engine)
        keeper = CheckpointKeeper(
            writer,
            keys,
            Publisher(place, metrics),
            records=settings.audit_checkpoint_records,
            seconds=settings.audit_checkpoint_seconds,
            register=lambda: known,
            metrics=metrics,
        )
        stack.push_async_callback(keeper.close)

        async def note(frame: Frame) -> None:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await writer.append([frame], essential=True)
            except (SpoolUnavailable, TimeoutError) as error:
                reason = str(error) or "the disk hangs"
                raise Unavailable(f"Nothing can be recorded in {root}: {reason}.") from None

        await note(registration(own.writer, keys.public_key))
        yield note


async def _register_head(engine: AsyncEngine) -> RegisterHead | None:
    try:
        return await register_head(engine)
    except DATABASE_ERRORS:
        return None  # whoever needs the database says so


async def _ship(shipment: Shipment, own: OwnDirectory) -> None:
    try:
        async with asyncio.timeout(SHIP_SECONDS):
            while await shipment.ship_next():
                pass
            await shipment.remove(heir=None)
    except (TimeoutError, SpoolFailed, *DATABASE_ERRORS) as error:
        reason = "not in time" if isinstance(error, TimeoutError) else reason_of(error)
        raise Unavailable(
            f"What is to be recorded is in {own.path} and not in the database ({reason}): nothing "
            "else was done. Try again."
        ) from None


async def _close(writer: SpoolWriter) -> None:
    """A disk that hangs may not keep a command from ending."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await writer.close()
    except TimeoutError:
        log.error("audit_spool_not_closed", waiting_bytes=writer.waiting_bytes)
