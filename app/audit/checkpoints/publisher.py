"""Checkpoints on their way to the second place, from a thread of its own.

No request waits for it, and no event loop: an object store may take seconds, and a disk that hangs
takes for ever.
"""

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from app.audit.checkpoints.checkpoint import Checkpoint
from app.telemetry.metrics import Metrics

# Checkpoints that wait for a place that is away: 10 MB, and a day where there is one each 10 s.
# Then the oldest go, since each states what those before it did.
MAX_WAITING = 10_000
FIRST_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0  # so long after its return, at most, has the place what it missed

log = structlog.get_logger()


class PlaceFailed(Exception):
    """The checkpoint is not known to be there."""


class Place(Protocol):
    """Out of the reach of whoever can write to the database."""

    name: str  # one of app.telemetry.series.CHECKPOINT_PLACES

    def publish(self, checkpoint: Checkpoint) -> None:
        """There on return, or the text of PlaceFailed says in a line why it is not. It may block,
        and may be called again with the same checkpoint."""

    def reach(self) -> str:
        """What can be known of it without writing: a line for an operator. It may block, and
        raises PlaceFailed."""

    def close(self) -> None:
        """Lets go of what it holds open."""


class Publisher:
    """Gives a place one checkpoint after the other; what fails is tried again, oldest first.

    `clock` is monotonic.
    """

    def __init__(
        self,
        place: Place,
        metrics: Metrics,
        *,
        max_waiting: int = MAX_WAITING,
        first_retry_seconds: float = FIRST_RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._first_retry_seconds = first_retry_seconds
        self._clock = clock
        self._waiting: deque[Checkpoint] = deque()
        self._changed = threading.Condition()  # guards what follows, and `_waiting`
        self._closing = False
        self._dropped = 0
        self._failures = 0  # in a row
        self._current_since = clock()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="audit-checkpoints", daemon=True).start()

    def offer(self, checkpoint: Checkpoint) -> None:
        """Returns at once, and never fails."""
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(checkpoint)
            self._changed.notify()

    @property
    def age_seconds(self) -> float:
        """Since the place last had everything."""
        with self._changed:
            return self._clock() - self._current_since

    async def close(self, timeout_seconds: float) -> None:
        """Gives what waits one try more. What the place does not take by then stays in the chain
        alone."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        ended = await asyncio.to_thread(self._ended.wait, timeout_seconds)
        if not ended or self._waiting:
            log.error("audit_checkpoints_not_published", place=self._place.name)

    def _run(self) -> None:
        try:
            while (checkpoint := self._next()) is not None:
                published = self._publish(checkpoint)
                if not published and not self._rest():
                    return
        finally:
            self._place.close()
            self._ended.set()

    def _next(self) -> Checkpoint | None:
        """The oldest that waits; None once there will be none."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            return self._waiting[0]

    def _publish(self, checkpoint: Checkpoint) -> bool:
        try:
            self._place.publish(checkpoint)
        except PlaceFailed as error:
            self._failed(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a library's surprise must not end the thread
            self._failed(f"{type(error).__name__}: {error}")
            return False
        self._metrics.audit_checkpointed(self._place.name)
        self._succeeded(checkpoint)
        return True

    def _succeeded(self, checkpoint: Checkpoint) -> None:
        with self._changed:
            if self._waiting and self._waiting[0] is checkpoint:  # not dropped meanwhile
                self._waiting.popleft()
            if not self._waiting:
                self._current_since = self._clock()
            dropped, self._dropped = self._dropped, 0
        if self._failures:
            log.warning("audit_checkpoints_published_again", place=self._place.name)
            self._failures = 0
        if dropped:
            log.error("audit_checkpoints_dropped", place=self._place.name, checkpoints=dropped)

    def _failed(self, reason: str) -> None:
        self._metrics.audit_checkpoint_failed(self._place.name)
        if not self._failures:
            log.error("audit_checkpoint_place_failed", place=self._place.name, reason=reason)
        self._failures += 1

    def _rest(self) -> bool:
        """Until the next try is due. False where the publisher closes: then there was the last."""
        delay = min(self._first_retry_seconds * 2.0 ** min(self._failures, 16), MAX_RETRY_SECONDS)
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        with self._changed:
            if self._closing:
                return False
            self._changed.wait_for(lambda: self._closing, delay)
        return True
