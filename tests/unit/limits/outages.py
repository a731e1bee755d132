"""Replicas of a gateway beside one Redis that fails on demand, and an audit log that is late."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from app.errors import Unavailable
from app.limits.breaker import GOOD_PROBES_TO_CLOSE
from app.limits.enforcer import LimitsUnavailable
from app.limits.leases import Admission
from app.limits.limiter import Limiter
from app.limits.local import LocalLimits
from app.limits.recounts import Recounts
from app.limits.share import Share
from app.limits.subjects import Decision, Demand, Settled, Spending, Subject, Uncounted
from app.telemetry.metrics import Metrics

T = TypeVar("T")

LEASE_SECONDS, RECOUNT_SECONDS, DELAY_SECONDS = 30.0, 30.0, 5.0
BUDGET_SHARE = 0.1
TICK_SECONDS = 1e-4  # no two calls reach Redis at the same moment


class Clock:
    """Seconds since the epoch, and monotonic ones."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0  # 2027-01-15, 08:00

    def __call__(self) -> float:
        return self.at


class FakeRedis:
    """Enforces limits as the real one does. `away`: nothing arrives. `mute`: what arrives is done,
    and nobody hears of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.limits = LocalLimits(
            clock, lease_seconds=LEASE_SECONDS, recount_seconds=RECOUNT_SECONDS
        )
        self.away = self.mute = False
        self.calls: list[str] = []

    async def _do(self, name: str, call: Coroutine[Any, Any, T]) -> T:
        self.calls.append(name)
        self._clock.at += TICK_SECONDS
        if self.away:
            call.close()
            raise LimitsUnavailable("away")
        result = await call
        if self.mute:
            raise LimitsUnavailable("mute")
        await asyncio.sleep(0)  # as anything that is asked over a network
        return result

    async def admit(self, demand: Demand) -> Decision | Uncounted:
        return await self._do("admit", self.limits.admit(demand))

    async def settle(self, demand: Demand, spending: Spending) -> Settled:
        return await self._do("settle", self.limits.settle(demand, spending))

    async def renew(self, subject: Subject, holds: Mapping[str, int]) -> None:
        await self._do("renew", self.limits.renew(subject, holds))

    async def begin_recount(self, subject: Subject, *, patient: bool = False) -> float | None:
        begin = self.limits.begin_recount(subject, patient=patient)
        return await self._do("begin_recount", begin)

    async def finish_recount(
        self, subject: Subject, began: float, day_tokens: int, month_tokens: int
    ) -> bool:
        finish = self.limits.finish_recount(subject, began, day_tokens, month_tokens)
        return await self._do("finish_recount", finish)

    async def abandon_recount(self, subject: Subject, began: float) -> None:
        await self._do("abandon_recount", self.limits.abandon_recount(subject, began))

    def held(self, subject: Subject) -> tuple[int, int]:
        """Tokens, and leases."""
        state = self.limits._states[subject]
        return state.held_tokens, len(state.leases)

    def spent(self, subject: Subject) -> tuple[int, int]:
        """Tokens of this day, and those that are not sure."""
        budget = self.limits._states[subject].budget
        assert budget is not None
        return budget.day_tokens, budget.unsure_tokens

    def taken(self, subject: Subject) -> float:
        """Tokens missing from the bucket."""
        return self.limits._states[subject].tokens


class Ledger:
    """An audit log. What was settled can be read after `lag_seconds`, if it is not `away`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: list[tuple[float, float, int]] = []  # settled at, readable at, tokens
        self.lag_seconds = 0.0
        self.away = False
        self.queries = 0
        self.open = asyncio.Event()
        self.open.set()

    def add(self, at: float, tokens: int) -> None:
        self._records.append((at, self._clock() + self.lag_seconds, tokens))

    async def charged_tokens(self, subject: Subject, since: float, until: float) -> int:
        self.queries += 1
        await self.open.wait()
        if self.away:
            raise Unavailable("The database is away.")
        now = self._clock()
        return sum(
            tokens
            for at, readable_at, tokens in self._records
            if since <= at <= until and readable_at <= now
        )


class SteppedRecounts(Recounts):
    """Waits until the clock is set, not for a time."""

    async def _until(self, moment: float) -> None:
        while self._clock() < moment:  # noqa: ASYNC110 - tests set the clock, nobody tells of it
            await asyncio.sleep(0)
        await self._ready.wait()


class Replica:
    def __init__(
        self, redis: FakeRedis, ledger: Ledger, clock: Clock, *, replicas: int = 1
    ) -> None:
        self.clock = clock
        self.redis = redis
        self.ledger = ledger
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.recounts = SteppedRecounts(
            redis, ledger, delay_seconds=DELAY_SECONDS, clock=clock, metrics=metrics
        )
        self.limiter = Limiter(
            enforcer=redis,
            stand_in=lambda: LocalLimits(
                clock,
                lease_seconds=LEASE_SECONDS,
                recount_seconds=RECOUNT_SECONDS,
                standing_in=True,
            ),
            recounts=self.recounts,
            share=Share(replicas, BUDGET_SHARE),
            metrics=metrics,
            clock=clock,
            now=clock,
        )
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for work in (self.limiter.run_late(), self.recounts.run()):
            self._running.append(asyncio.create_task(work))

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        results = await asyncio.gather(*self._running, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results

    async def settle(self, admission: Admission, certain: int, unsure: int = 0) -> None:
        """As the pipeline does: what was charged is audited, as of when it was settled."""
        at = await self.limiter.settle(admission, Spending(certain, unsure))
        self.ledger.add(at, certain + unsure)

    async def step(self, seconds: float) -> None:
        """Also does what is due by then."""
        target = self.clock.at + seconds
        while self.clock.at < target:
            self.clock.at = min(target, self.clock.at + 1.0)
            await settle_down()

    async def beat(self, replicas: int = 1) -> None:
        """A heartbeat, which fails as everything does."""
        if self.redis.away:
            self.limiter.failed(LimitsUnavailable("away"))
            return
        await self.limiter.heard(replicas)
        await settle_down()

    async def come_back(self, replicas: int = 1) -> None:
        self.redis.away = self.redis.mute = False
        for _ in range(GOOD_PROBES_TO_CLOSE):
            assert self.limiter.degraded
            await self.beat(replicas)
        assert not self.limiter.degraded

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


async def settle_down() -> None:
    """Lets everything run that can."""
    for _ in range(100):
        await asyncio.sleep(0)
