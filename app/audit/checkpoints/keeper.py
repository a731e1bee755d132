"""Checkpoints of this process's chain: into the chain itself, and to a second place."""

import asyncio
import time
from collections.abc import Callable

import structlog

from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import Checkpoint, make_checkpoint
from app.audit.checkpoints.publisher import Publisher
from app.audit.checkpoints.signing import SigningKeys
from app.audit.register import RegisterHead
from app.audit.spool.frames import Frame
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from app.telemetry.metrics import Metrics
from app.telemetry.series import SPOOL_PLACE

POLL_SECONDS = 0.1  # between looks at the chain: at ten thousand events a second, one checkpoint
CLOSE_SECONDS = 5.0  # for each of the two places, when the process ends
MAX_CLOSINGS = 3  # where more is recorded meanwhile, somebody records who should have ended

log = structlog.get_logger()


class CheckpointKeeper:
    """`run` makes a checkpoint whenever one is due; `close` makes the last one.

    A spool that refuses it keeps none from the second place, and the other way round.
    """

    def __init__(
        self,
        writer: SpoolWriter,
        keys: SigningKeys,
        place: Publisher,
        *,
        records: int,
        seconds: float,
        register: Callable[[], RegisterHead | None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,  # noqa: TID251 - stands in the checkpoint
    ) -> None:
        """One is due after `records` events, or after `seconds` by `clock`, which is monotonic.
        `register` gives the newest entry of the register that is known; `now` gives wall-clock
        seconds since the epoch."""
        self._writer = writer
        self._keys = keys
        self._place = place
        self._records = records
        self._seconds = seconds
        self._register = register
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._last = 0  # what the last one states
        self._last_at = clock()
        self._recording: asyncio.Future[None] | None = None  # on its way into the chain
        self._refused = False

    async def run(self) -> None:
        """Ends only by cancellation."""
        while True:
            if self.is_due():
                self.keep()
            self._metrics.audit_checkpoint_age(self._place.age_seconds)
            await asyncio.sleep(POLL_SECONDS)

    def is_due(self) -> bool:
        written = self._writer.chain.sequence - self._last
        return written >= self._records or self._clock() - self._last_at >= self._seconds

    def keep(self) -> None:
        """Makes a checkpoint of the chain as it is now. Never waits."""
        self._make(closed=False)

    async def close(self) -> None:
        """Makes the closing checkpoint. Only after `run` has ended and all else is recorded; the
        writer is still open."""
        try:
            await self._recorded()
            for _ in range(MAX_CLOSINGS):
                self._make(closed=True)
                await self._recorded()
                if self._writer.chain.sequence <= self._last + 1:
                    break
                # Something was committed between: the closing one has to state that, too.
        finally:
            await self._place.close(CLOSE_SECONDS)

    def _make(self, *, closed: bool) -> None:
        durable = self._writer.commit
        checkpoint = make_checkpoint(
            self._keys,
            self._writer.writer,
            durable.chain,
            at=self._now(),
            previous=durable.checkpoint,
            register=self._register(),
            closed=closed,
        )
        self._last, self._last_at = durable.chain.sequence, self._clock()
        self._place.offer(checkpoint)
        # A disk that hangs has one of them in its queue, not one for each ten seconds.
        if self._recording is None or self._recording.done():
            self._submit(checkpoint)

    def _submit(self, checkpoint: Checkpoint) -> None:
        try:
            self._recording = self._writer.submit([checkpoint.frame], essential=True)
        except SpoolUnavailable as error:
            self._recording = None
            self._refuse(error)
        else:
            self._recording.add_done_callback(self._tell)

    async def _recorded(self) -> None:
        """Once the chain has the last one, or does not take it. A disk that hangs is left alone."""
        if self._recording is not None:
            await asyncio.wait([self._recording], timeout=CLOSE_SECONDS)

    def _tell(self, recording: asyncio.Future[None]) -> None:
        if recording.cancelled():
            return
        error = recording.exception()
        if error is not None:
            self._refuse(error)
            return
        self._metrics.audit_checkpointed(SPOOL_PLACE)
        if self._refused:
            self._refused = False
            log.warning("audit_checkpoints_recorded_again")

    def _refuse(self, error: BaseException) -> None:
        self._metrics.audit_checkpoint_failed(SPOOL_PLACE)
        if not self._refused:
            self._refused = True
            log.error("audit_checkpoint_not_recorded", reason=str(error))


def closing_frames(
    keys: SigningKeys,
    offer: Callable[[Checkpoint], None],
    now: Callable[[], float] = time.time,  # noqa: TID251 - stands in the checkpoint
) -> Callable[[str, ChainHead, int | None], Frame]:
    """Makes the last frame of a chain whose process is dead, for whoever recovers it: from its
    writer, its head, and what its last checkpoint states. `offer` brings it to the second place:
    without it there, all since the last one of the process could be cut off unseen. `now` gives
    wall-clock seconds since the epoch."""

    def closing_frame(writer: str, head: ChainHead, previous: int | None) -> Frame:
        checkpoint = make_checkpoint(
            keys, writer, head, at=now(), previous=previous, register=None, closed=True
        )
        offer(checkpoint)
        return checkpoint.frame

    return closing_frame


def closed_again(
    keys: SigningKeys, offer: Callable[[Checkpoint], None]
) -> Callable[[Checkpoint], None]:
    """Offers what closes the chain of a dead process once more: it was killed, or whoever closed
    its chain was, and the second place may not have it. What is none of ours is not passed on."""

    def offer_again(checkpoint: Checkpoint) -> None:
        if checkpoint.key in keys.public_keys and checkpoint.is_signed():
            offer(checkpoint)

    return offer_again
