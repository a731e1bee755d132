"""Budgets, counted again from the audit log: it is the truth, of which Redis holds a cache.

That is due when a budget is not known at all (a new one, or Redis was emptied), and when a part of
it is not known for sure: a worker died, a replica was killed, or spent while Redis was away.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from app.errors import GatewayError
from app.limits.enforcer import Enforcer, LimitsUnavailable
from app.limits.subjects import Subject
from app.store.transaction import DatabaseUnavailable
from app.telemetry.metrics import Metrics

DAY_SECONDS = 86_400
WAIT_SECONDS = 0.05  # a recount by another replica takes some milliseconds
# Then it counts as given up: its replica died. Longer than the delay and two queries take.
RECOUNT_SECONDS = 30.0
MAX_DUE_SUBJECTS = 10_000  # more than one replica serves in the seconds for which they wait

log = structlog.get_logger()


class Ledger(Protocol):
    """The audit log, as far as budgets need it."""

    async def charged_tokens(self, subject: Subject, since: float, until: float) -> int:
        """What was settled from `since` to `until`, both included; seconds since the epoch. Raises
        GatewayError where it cannot be read."""


@dataclass(frozen=True, slots=True)
class _Begun:
    subject: Subject
    began: float  # seconds since the epoch, by the enforcer
    sum_at: float  # by our clock


class Recounts:
    """`run` counts what is due, until it is cancelled.

    `delay_seconds` is what an audit record may take to be written. A recount begins so long after
    it was asked for, that several become one; and it sums up so long after it began: else it would
    miss for good what was settled just before, and is not written yet.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        ledger: Ledger,
        *,
        delay_seconds: float,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._enforcer = enforcer
        self._ledger = ledger
        self._delay_seconds = delay_seconds
        self._clock = clock
        self._metrics = metrics
        self._due: dict[Subject, float] = {}  # when, by the clock; the earliest is the first
        self._begun: deque[_Begun] = deque()  # the earliest is the first
        self._counting: dict[Subject, asyncio.Event] = {}
        self._more = asyncio.Event()
        self._ready = asyncio.Event()
        self._ready.set()
        self._failing = False

    def rest(self) -> None:
        """Until `resume`: the enforcer cannot be asked, and what is due waits."""
        self._ready.clear()

    def resume(self) -> None:
        self._ready.set()

    def due(self, *subjects: Subject) -> None:
        """Each will be counted once, `delay_seconds` from now."""
        for subject in subjects:
            if subject.budgeted and subject not in self._due:
                if len(self._due) >= MAX_DUE_SUBJECTS:
                    self._metrics.budget_recounted("dropped")
                    continue
                self._due[subject] = self._clock() + self._delay_seconds
                self._more.set()

    async def now(self, subject: Subject) -> None:
        """Counts a budget that nobody knows, and has it counted again when records that are under
        way are written. Gives another replica that is at it a moment: then it has to be looked
        whether it is known. Raises LimitsUnavailable, and what the ledger raises."""
        running = self._counting.get(subject)
        if running is not None:
            await running.wait()
            return
        done = self._counting[subject] = asyncio.Event()
        try:
            began = await self._enforcer.begin_recount(subject)
            if began is not None and await self._finish(subject, began):
                self.due(subject)
            else:
                await asyncio.sleep(WAIT_SECONDS)
        finally:
            del self._counting[subject]
            done.set()

    async def run(self) -> None:
        while True:
            await self._ready.wait()
            if not self._due and not self._begun:
                self._more.clear()
                await self._more.wait()
            subject, begin_at = next(iter(self._due.items()), (None, math.inf))
            if self._begun and self._begun[0].sum_at <= begin_at:
                await self._until(self._begun[0].sum_at)
                begun = self._begun.popleft()
                await self._try(begun.subject, self._finish(begun.subject, begun.began))
            elif subject is not None:
                await self._until(begin_at)
                del self._due[subject]
                await self._try(subject, self._begin(subject))

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self._clock()))
        await self._ready.wait()

    async def _try(self, subject: Subject, step: Coroutine[Any, Any, bool]) -> None:
        """Where it cannot be done, it is due again."""
        try:
            done = await step
        except (LimitsUnavailable, GatewayError) as error:
            self._metrics.budget_recounted("failed")
            if not self._failing:  # one line, however many budgets wait for it
                reason = error.reason if isinstance(error, DatabaseUnavailable) else str(error)
                log.warning("budget_recounts_fail", subject=subject.id, reason=reason)
            self._failing = True
            done = False
        else:
            self._failing = False
        if not done:
            self.due(subject)

    async def _begin(self, subject: Subject) -> bool:
        """False where another replica is at it."""
        began = await self._enforcer.begin_recount(subject, patient=True)
        if began is None:
            return False
        self._begun.append(_Begun(subject, began, self._clock() + self._delay_seconds))
        return True

    async def _finish(self, subject: Subject, began: float) -> bool:
        """False where midnight came in between, or another replica."""
        try:
            day = await self._ledger.charged_tokens(subject, _day_start(began), began)
            month = await self._ledger.charged_tokens(subject, _month_start(began), began)
        except (GatewayError, asyncio.CancelledError):
            with suppress(LimitsUnavailable):  # its mark in Redis expires by itself
                await self._enforcer.abandon_recount(subject, began)
            raise
        counted = await self._enforcer.finish_recount(subject, began, day, month)
        self._metrics.budget_recounted("done" if counted else "late")
        return counted


def _day_start(moment: float) -> float:
    return math.floor(moment / DAY_SECONDS) * DAY_SECONDS


def _month_start(moment: float) -> float:
    date = datetime.fromtimestamp(moment, UTC)
    return date.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
