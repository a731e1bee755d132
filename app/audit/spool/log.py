"""The spool as requests use it: what it has taken is on disk, what it cannot take it refuses."""

import asyncio
from collections.abc import Sequence

import structlog

from app.audit.spool.frames import Frame
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from app.errors import Unavailable
from app.telemetry.metrics import Metrics

AUDIT_UNAVAILABLE = "audit_unavailable"
RETRY_SECONDS = 10.0  # by then an operator may have made room, or another replica is asked

Written = asyncio.Future[None]  # has a result once the frames are durable

log = structlog.get_logger()


class AuditUnavailable(Unavailable):
    """A request that cannot be recorded is not served."""

    def __init__(self) -> None:
        super().__init__(
            "The gateway cannot record this request, and so does not serve it. Please try again "
            "later.",
            code=AUDIT_UNAVAILABLE,
            retry_after_seconds=RETRY_SECONDS,
        )


class SpoolLog:
    """Frames of one append are kept together, or none of them is.

    A disk that neither writes nor fails within `write_seconds` counts as failed, until it has
    written all that it was given: nothing new waits for it meanwhile.
    """

    def __init__(self, writer: SpoolWriter, metrics: Metrics, *, write_seconds: float) -> None:
        self._writer = writer
        self._write_seconds = write_seconds
        self._metrics = metrics
        self._hangs = False

    @property
    def accepting(self) -> bool:
        """Whether new requests can be recorded."""
        return self._writer.accepting and not self.hangs

    @property
    def hangs(self) -> bool:
        """Whether the disk has kept somebody waiting for too long, and still has not written."""
        if self._hangs and not self._writer.waiting_bytes:
            self._hangs = False
            log.warning("audit_spool_writes_again")
        return self._hangs

    async def append(self, frames: Sequence[Frame], *, essential: bool = False) -> None:
        """As `submit`; durable on return. Raises AuditUnavailable."""
        await self.durable(self.submit(frames, essential=essential))

    def submit(self, frames: Sequence[Frame], *, essential: bool = False) -> Written:
        """Without waiting for the disk. What is `essential` ends what was begun: it is taken while
        there is any room at all, and once taken it is written, whatever its waiter is told.

        Raises AuditUnavailable where they are refused at once.
        """
        try:
            if not (essential or self.accepting):
                raise self._refusal()
            written = self._writer.submit(frames, essential=essential)
        except SpoolUnavailable:
            raise self._refusal() from None
        written.add_done_callback(_look)
        return written

    async def durable(self, written: Written) -> None:
        """Raises AuditUnavailable where it fails, or takes too long: then it may be written yet.
        Whoever is cancelled has it written nevertheless."""
        try:
            async with asyncio.timeout(self._write_seconds):
                await asyncio.shield(written)
        except SpoolUnavailable:
            raise self._refusal() from None
        except TimeoutError:
            if not self._hangs:
                self._hangs = True
                log.error("audit_spool_hangs", waiting_bytes=self._writer.waiting_bytes)
            raise self._refusal() from None

    def offer(self, frames: Sequence[Frame], *, essential: bool = False) -> Written | None:
        """As `submit`, of what may be refused without harm: None where it is."""
        if not (essential or self.accepting):
            return None
        try:
            written = self._writer.submit(frames, essential=essential)
        except SpoolUnavailable:
            return None
        written.add_done_callback(_look)
        return written

    def _refusal(self) -> AuditUnavailable:
        self._metrics.audit_refused()
        return AuditUnavailable()


def has_failed(written: Written) -> bool:
    """Whether it is known not to be durable."""
    return written.done() and (written.cancelled() or written.exception() is not None)


def _look(written: Written) -> None:
    """So that asyncio does not complain of an error that nobody waited for."""
    if not written.cancelled():
        written.exception()
