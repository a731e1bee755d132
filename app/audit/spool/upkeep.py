"""What a shipper sees to beside shipping: that there are partitions, and what the register says."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.partitions import make_partitions
from app.audit.register import RegisterHead, register_head
from app.store.transaction import DATABASE_ERRORS, reason_of

PARTITIONS_SECONDS = 3600.0
REGISTER_SECONDS = 60.0  # each checkpoint signs what is known, so others are known so much later
RETRY_SECONDS = 60.0  # after a failure: what is shipped meanwhile makes what it needs itself

log = structlog.get_logger()


class Upkeep:
    """`register_head` is the newest row of the register that is known."""

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,  # noqa: TID251 - partitions are by date
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._now = now
        self.register_head: RegisterHead | None = None
        self._partitions_due = self._register_due = clock()
        self._failing = False

    def registered(self, head: RegisterHead) -> None:
        """We have made a row ourselves."""
        self.register_head = head

    async def see_to_what_is_due(self) -> None:
        """A failure is told, and delays nothing else."""
        now = self._clock()
        if now >= self._partitions_due:
            made = await self._make_partitions()
            self._partitions_due = now + (PARTITIONS_SECONDS if made else RETRY_SECONDS)
        if now >= self._register_due:
            self._register_due = now + REGISTER_SECONDS
            await self._ask_the_register()

    async def _make_partitions(self) -> bool:
        today = datetime.fromtimestamp(self._now(), UTC).date()
        try:
            await make_partitions(self._engine, today)
        except (TimeoutError, *DATABASE_ERRORS) as error:
            if not self._failing:
                log.error("audit_partitions_not_made", reason=reason_of(error))
            self._failing = True
            return False
        if self._failing:
            log.warning("audit_partitions_made_again")
        self._failing = False
        return True

    async def _ask_the_register(self) -> None:
        try:
            head = await register_head(self._engine)
        except (TimeoutError, *DATABASE_ERRORS) as error:
            log.warning("audit_register_unknown", reason=reason_of(error))
        else:
            self.register_head = head  # also where it went back: a checkpoint tells
