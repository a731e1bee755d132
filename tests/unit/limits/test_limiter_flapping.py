"""A Redis that comes and goes: what the limiter makes of its failures, and of the share that it
hands out in between."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from app.limits import gcra
from app.limits.breaker import FAILURES_TO_OPEN, GOOD_PROBES_TO_CLOSE
from app.limits.enforcer import LimitsUnavailable
from app.limits.limiter import Limiter
from app.limits.local import LocalLimits
from app.limits.recounts import Recounts
from app.limits.refusals import LimitReached
from app.limits.share import Share
from app.limits.subjects import Decision, Demand, Spending, Subject, SubjectKind, Uncounted
from app.store.policy import Limits
from app.telemetry.metrics import Metrics

DAY = 20_000 * 86_400.0


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def date(self) -> float:
        return DAY + self.at


class Redis(LocalLimits):
    """Enforces like the real one, and fails with what `error` says."""

    error: LimitsUnavailable | None = None

    async def admit(self, demand: Demand) -> Decision | Uncounted:
        if self.error is not None:
            raise self.error
        return await super().admit(demand)


class NoLedger:
    async def charged_tokens(self, subject: Subject, since: float, until: float) -> int:
        raise AssertionError("no budget here has to be counted")


class Replica:
    def __init__(self, replicas: int = 1) -> None:
        self.clock = Clock()
        self.redis = Redis(self.clock.date, lease_seconds=30, recount_seconds=30)
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.limiter = Limiter(
            enforcer=self.redis,
            stand_in=lambda: LocalLimits(
                self.clock.date, lease_seconds=30, recount_seconds=30, standing_in=True
            ),
            recounts=Recounts(
                self.redis, NoLedger(), delay_seconds=1, clock=self.clock, metrics=metrics
            ),
            share=Share(replicas, 0.05),
            metrics=metrics,
            clock=self.clock,
            now=self.clock.date,
        )
        self._ids: Iterator[int] = iter(range(10**6))

    async def admitted(self, tries: int, *, per_minute: int) -> int:
        limits = Limits(requests_per_minute=per_minute)
        subject = Subject(SubjectKind.KEY, "key_1", "acme", limits)
        passed = 0
        for _ in range(tries):
            try:
                await self.limiter.admit(Demand(f"req_{next(self._ids)}", (subject,), 10))
            except LimitReached:
                continue
            passed += 1
        return passed

    def goes(self) -> None:
        for _ in range(FAILURES_TO_OPEN):
            self.limiter.failed(LimitsUnavailable("slow"))
        assert self.limiter.degraded

    async def comes_back(self) -> None:
        for _ in range(GOOD_PROBES_TO_CLOSE):
            await self.limiter.heard(1)
        assert not self.limiter.degraded


async def test_calls_that_fail_together_are_one_failure() -> None:
    replica = Replica()
    for _ in range(FAILURES_TO_OPEN - 1):
        replica.redis.error = LimitsUnavailable("one write that was not answered")
        await replica.admitted(64, per_minute=1000)
        assert not replica.limiter.degraded
    replica.redis.error = LimitsUnavailable("and another one")
    await replica.admitted(1, per_minute=1000)
    assert replica.limiter.degraded
    counted = replica.registry.get_sample_value("gateway_limits_unanswered_total")
    assert counted == FAILURES_TO_OPEN


async def test_a_redis_that_comes_and_goes_does_not_fill_the_buckets_each_time() -> None:
    replica = Replica()
    passed = 0
    for _ in range(12):
        replica.goes()
        passed += await replica.admitted(20, per_minute=10)
        await replica.comes_back()
    assert passed == 10


async def test_what_ended_between_two_outages_holds_no_slot_in_the_second() -> None:
    replica = Replica()
    subject = Subject(SubjectKind.KEY, "key_1", "acme", Limits(concurrency=1))
    replica.goes()
    admission = await replica.limiter.admit(Demand("req_a", (subject,), 10))
    await replica.comes_back()
    await replica.limiter.settle(admission, Spending(10))
    replica.goes()
    await replica.limiter.admit(Demand("req_b", (subject,), 10))


@pytest.mark.parametrize(("pause_seconds", "passed"), [(0, 0), (30, 5), (gcra.WINDOW_SECONDS, 10)])
async def test_what_was_used_of_the_share_comes_back_with_time(
    pause_seconds: float, passed: int
) -> None:
    replica = Replica()
    replica.goes()
    assert await replica.admitted(20, per_minute=10) == 10
    await replica.comes_back()
    replica.clock.at += pause_seconds
    replica.goes()
    assert await replica.admitted(20, per_minute=10) == passed
