"""Settlements that their enforcer has not heard of, until it can be asked again.

Without them nothing would stay held either: leases end by themselves, and a recount finds out what
was spent. But that takes longer.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from app.limits.enforcer import Enforcer, LimitsUnavailable
from app.limits.recounts import Recounts
from app.limits.subjects import Demand, Spending

MAX_LATE_SETTLEMENTS = 20_000  # ~0.5 KiB each; the oldest are given up


class LateSettlements:
    """`asks` says whether the enforcer is asked at the moment, `runs` whether a request of this id
    runs after all: then it will be settled like any other."""

    def __init__(
        self,
        enforcer: Enforcer,
        recounts: Recounts,
        *,
        asks: Callable[[], bool],
        runs: Callable[[str], bool],
    ) -> None:
        self._enforcer = enforcer
        self._recounts = recounts
        self._asks = asks
        self._runs = runs
        self._waiting: deque[tuple[Demand, Spending]] = deque(maxlen=MAX_LATE_SETTLEMENTS)
        self._more = asyncio.Event()

    def add(self, demand: Demand, spending: Spending) -> None:
        late = Spending(spending.certain_tokens, spending.unsure_tokens, late=True)
        self._waiting.append((demand, late))
        self.go_on()

    def go_on(self) -> None:
        """The enforcer may be asked again."""
        self._more.set()

    async def run(self, failed: Callable[[LimitsUnavailable], None]) -> None:
        """Settles what waits, until it is cancelled. `failed` is told of each time it could not."""
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                await self._settle_all()
            except LimitsUnavailable as error:
                failed(error)

    async def _settle_all(self) -> None:
        while self._waiting and self._asks():
            demand, spending = late = self._waiting.popleft()
            if self._runs(demand.request_id):
                continue
            try:
                settled = await self._enforcer.settle(demand, spending)
            except (LimitsUnavailable, asyncio.CancelledError):
                self._waiting.append(late)  # behind the others: it may be the only one that fails
                raise
            self._recounts.due(*settled.due)
