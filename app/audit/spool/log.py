"""The audit log of this process: records go to its spool, and from there to Postgres."""

import asyncio

import structlog

from app.audit.records import AuditIntent, AuditOutcome
from app.audit.spool.frames import FrameKind, encode
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from app.errors import Unavailable
from app.telemetry.metrics import Metrics

AUDIT_UNAVAILABLE = "audit_unavailable"
RETRY_SECONDS = 10.0  # by then an operator may have made room, or another replica is asked

log = structlog.get_logger()


class SpooledAuditLog:
    """Implements AuditLog. What it has taken is on disk; what it cannot take, it refuses.

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
        if self._hangs and not self._writer.waiting_bytes:
            self._hangs = False
            log.warning("audit_spool_writes_again")
        return self._writer.accepting and not self._hangs

    async def intent(self, record: AuditIntent) -> None:
        await self._append(encode(FrameKind.INTENT, encode_intent(record)), essential=False)

    async def outcome(self, record: AuditOutcome) -> None:
        await self._append(encode(FrameKind.OUTCOME, encode_outcome(record)), essential=True)

    async def whole(self, intent: AuditIntent, outcome: AuditOutcome) -> None:
        # New work: a flood of refusals must not use up what running requests end in.
        frames = (
            encode(FrameKind.INTENT, encode_intent(intent)),
            encode(FrameKind.OUTCOME, encode_outcome(outcome)),
        )
        await self._append(b"".join(frames), essential=False)

    async def _append(self, frame: bytes, *, essential: bool) -> None:
        if not (essential or self.accepting):
            raise self._refusal()
        try:
            async with asyncio.timeout(self._write_seconds):
                await self._writer.append(frame, essential=essential)
        except SpoolUnavailable:
            raise self._refusal() from None
        except TimeoutError:
            if not self._hangs:
                self._hangs = True
                log.error("audit_spool_hangs", waiting_bytes=self._writer.waiting_bytes)
            raise self._refusal() from None

    def _refusal(self) -> Unavailable:
        self._metrics.audit_refused()
        return Unavailable(
            "The gateway cannot record this request, and so does not serve it. Please try again "
            "later.",
            code=AUDIT_UNAVAILABLE,
            retry_after_seconds=RETRY_SECONDS,
        )
