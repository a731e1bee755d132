"""The requests of tenants that may go on while nothing can be recorded, and what else is owed to a
spool that refused it.

What is known of them goes to the log at once, and waits in memory for the spool to take it. No text
of theirs is kept.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

import orjson
import structlog

from app.audit.records import AuditIntent, AuditOutcome
from app.audit.spool.frames import Frame
from app.audit.spool.log import SpoolLog, has_failed
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.telemetry.metrics import Metrics

RETRY_SECONDS = 1.0  # as often as the spool itself tries its disk again

# Records have some 2 KiB, but up to 80 KiB where a filter found much in many requests.
MAX_WAITING_BYTES = 64 * 1024 * 1024

log = structlog.get_logger()


class OpenMetadata:
    """At most `max_records` requests wait, and MAX_WAITING_BYTES; of more, the oldest are in the
    log alone."""

    def __init__(self, spool: SpoolLog, metrics: Metrics, *, max_records: int) -> None:
        self._spool = spool
        self._metrics = metrics
        self._max_records = max_records
        self._waiting: deque[Sequence[Frame]] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()

    def begun(self, intent: AuditIntent) -> None:
        """A request goes on that cannot be recorded: told once for each."""
        self._metrics.audit_open_metadata()
        record = orjson.loads(encode_intent(intent))
        log.error("audit_open_metadata", event_kind="intent", record=record)

    def ended(self, outcome: AuditOutcome) -> None:
        record = orjson.loads(encode_outcome(outcome))
        log.error("audit_open_metadata", event_kind="outcome", record=record)

    def keep(self, frames: Sequence[Frame]) -> None:
        """Until the spool takes them, together. Only what the spool has not, and will not have."""
        self._waiting.append(frames)
        self._waiting_bytes += _size_bytes(frames)
        while len(self._waiting) > self._max_records or self._waiting_bytes > MAX_WAITING_BYTES:
            self._waiting_bytes -= _size_bytes(self._waiting.popleft())
            log.error("audit_open_metadata_dropped", waiting=len(self._waiting))
        self._changed.set()

    async def run(self) -> None:
        """Brings them into the spool once it takes them; ends only by cancellation."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting:
                if not await self._bring():
                    await asyncio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """The last chance. Only once `run` has ended; the spool is still open."""
        while self._waiting:
            if self._spool.offer(self._waiting[0]) is None:
                log.error("audit_open_metadata_lost", requests=len(self._waiting))
                return
            self._forget_first()

    async def _bring(self) -> bool:
        """The oldest. However long a disk hangs: given up too early, they would come twice."""
        written = self._spool.offer(self._waiting[0])
        if written is None:
            return False
        frames = self._forget_first()
        await asyncio.wait([written])
        if has_failed(written):
            self._waiting.appendleft(frames)
            self._waiting_bytes += _size_bytes(frames)
            return False
        return True

    def _forget_first(self) -> Sequence[Frame]:
        frames = self._waiting.popleft()
        self._waiting_bytes -= _size_bytes(frames)
        return frames


def _size_bytes(frames: Sequence[Frame]) -> int:
    return sum(frame.size_bytes for frame in frames)
