"""The limits of every key and tenant, whoever enforces them at the moment.

With Redis they hold over all replicas. While it cannot be asked, this replica enforces its share of
them: never none of it, and never all. Without Redis this process enforces them alone.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from app.limits import gcra
from app.limits.breaker import Breaker
from app.limits.emptied import Emptied
from app.limits.enforcer import Enforcer, LimitsUnavailable
from app.limits.late import LateSettlements
from app.limits.leases import Admission, Leases
from app.limits.local import LocalLimits
from app.limits.recounts import Recounts
from app.limits.refusals import BudgetUnknown, limit_reached
from app.limits.share import Share
from app.limits.subjects import (
    NO_STANDING,
    Decision,
    Demand,
    Scope,
    Spending,
    Standing,
    Subject,
    Uncounted,
)
from app.telemetry.metrics import Metrics

# An admission that finds a budget uncounted has it counted, for at most two subjects; the rest is
# waiting for another replica that counts.
MAX_COUNTINGS = 20
LIFE_SECONDS = 15.0  # without a heartbeat; then a replica no longer counts
PROBE_ID = "probe"  # no request has this id, so that settling it changes nothing

log = structlog.get_logger()


class Limiter:
    """`stand_in` makes what enforces this replica's share while `enforcer` cannot be asked.

    `now` gives seconds since the epoch, `clock` monotonic ones.
    """

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        stand_in: Callable[[], LocalLimits],
        recounts: Recounts,
        share: Share,
        metrics: Metrics,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._enforcer = enforcer
        self._make_stand_in = stand_in
        self._stand_in: LocalLimits | None = None  # only while Redis cannot be asked
        self._rested: tuple[LocalLimits, float] | None = None  # the last one, and since when
        self._recounts = recounts
        self._share = share
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._breaker = Breaker()
        self._leases = Leases(clock)
        self._late = LateSettlements(
            enforcer, recounts, asks=lambda: self._breaker.closed, runs=self._leases.runs
        )
        self._emptied = Emptied(clock)
        # Admitted by the stand-in after Redis was asked, which may have admitted them too.
        self._twice: set[str] = set()
        self._away_since = 0.0
        self._back_since = clock()
        metrics.replicas_seen(share.replicas)
        self._last_error: LimitsUnavailable | None = None
        self._unanswered: Demand | None = None  # the last one

    @property
    def running(self) -> int:
        """How many admitted requests are not settled yet."""
        return len(self._leases)

    @property
    def replicas(self) -> int:
        """How many share the limits, as far as is known."""
        return self._share.replicas

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now()

    @property
    def degraded(self) -> bool:
        return not self._breaker.closed

    async def admit(self, demand: Demand) -> Admission:
        """Reserves what is demanded, or raises LimitReached, or Unavailable where a budget cannot
        be known. To be settled, however the request ends."""
        if not demand.subjects:
            return Admission(demand, None)
        by, decision = await self._ask(demand)
        admission = Admission(
            demand,
            by,
            self._clock(),
            decision.standing,
            min((left for left in decision.budget_left if left is not None), default=None),
        )
        self._leases.add(admission)
        return admission

    def check(self, subjects: Iterable[Subject]) -> None:
        """Raises LimitReached where a subject was refused for its requests, and nothing can have
        come back since: that needs no asking, and nothing of the request."""
        self._emptied.check(subjects)

    async def count(self, demand: Demand) -> Standing:
        """Counts a request that reserves nothing, or only looks; never refuses it."""
        if not demand.subjects:
            return NO_STANDING
        return (await self._decide(demand))[1].standing

    async def settle(self, admission: Admission, spending: Spending) -> float:
        """Replaces what was reserved by what was used. Returns the moment as of which budgets
        count it, in seconds since the epoch. A second time does nothing."""
        by, demand = admission.by, admission.demand
        if by is None or not self._leases.remove(admission):
            return self._now()
        twice = demand.request_id in self._twice
        self._twice.discard(demand.request_id)
        if by is not self._enforcer:
            self._recounts.due(*demand.subjects)  # it knows nothing of this
            if twice:
                self._late.add(demand, Spending(0))
            return (await by.settle(self._share.of_demand(demand), spending)).at
        if self._breaker.closed:
            try:
                settled = await by.settle(demand, spending)
            except LimitsUnavailable as error:
                self._unanswered = demand
                self.failed(error)
            except asyncio.CancelledError:
                self._late.add(demand, spending)
                raise
            else:
                self._breaker.succeeded()
                self._recounts.due(*settled.due)
                await self._release(demand, spending)
                return settled.at
        self._late.add(demand, spending)
        await self._release(demand, spending)
        return self._now()

    # -- whom to ask

    async def _ask(self, demand: Demand) -> tuple[Enforcer, Decision]:
        by, decision = await self._decide(demand)
        refusal = decision.refusal
        if refusal is not None:
            if by is not self._enforcer and refusal.scope in (Scope.DAY, Scope.MONTH):
                raise BudgetUnknown
            if by is self._enforcer:
                self._emptied.note(refusal, decision.standing)
            raise limit_reached(refusal, decision.standing)
        return by, decision

    async def _decide(self, demand: Demand) -> tuple[Enforcer, Decision]:
        asked = self._breaker.closed
        if asked:
            try:
                decision = await self._exact(demand)
            except LimitsUnavailable as error:
                self._unanswered = demand
                self.failed(error)
            except asyncio.CancelledError:
                if demand.reserving:  # its client left, and the call is on its way
                    self._late.add(demand, Spending(0))
                raise
            else:
                self._breaker.succeeded()
                self._share.saw(demand.subjects, decision.budget_left)
                self._recounts.due(*decision.due)
                return self._enforcer, decision
        stand_in = await self._standing_in()
        decided = await stand_in.admit(self._share.of_demand(demand))
        if isinstance(decided, Uncounted):
            raise BudgetUnknown
        if asked and demand.reserving:  # Redis may have admitted it after all
            if decided.refusal is None:
                self._twice.add(demand.request_id)
            else:
                self._late.add(demand, Spending(0))
        return stand_in, decided

    async def _exact(self, demand: Demand) -> Decision:
        for _ in range(MAX_COUNTINGS):
            decided = await self._enforcer.admit(demand)
            if isinstance(decided, Decision):
                return decided
            await self._recounts.now(decided.subject)
        raise BudgetUnknown

    async def _standing_in(self) -> LocalLimits:
        if self._stand_in is None:
            self._stand_in = self._woken() or self._make_stand_in()
            # It knows what already runs here.
            await self._leases.renew(self._stand_in, of=self._share.of, everyone=True)
        return self._stand_in

    def _woken(self) -> LocalLimits | None:
        """The last one, with its buckets as they are: a Redis that comes and goes, as a slow one
        does, must not fill them each time."""
        if self._rested is not None and self._clock() - self._rested[1] >= gcra.WINDOW_SECONDS:
            self._rested = None
        return None if self._rested is None else self._rested[0]

    async def _release(self, demand: Demand, spending: Spending) -> None:
        """What a stand-in holds, too, of a request that Redis was told has ended."""
        stand_in = self._stand_in or self._woken()
        if stand_in is not None:
            await stand_in.settle(self._share.of_demand(demand), spending)

    # -- Redis goes, and comes back

    def failed(self, error: LimitsUnavailable, *, at_once: bool = False) -> None:
        """Redis did not answer; `at_once`: it could not even be reached. Calls that left in one
        write fail with one error, and count once."""
        if error is self._last_error:
            return
        self._last_error = error
        self._metrics.limits_unanswered()
        if not self._breaker.failed(at_once=at_once):
            return
        self._away_since = self._clock()
        self._metrics.limits_degraded(True)
        self._recounts.rest()
        log.error("limits_degraded", reason=str(error), replicas=self._share.replicas)

    async def probe(self) -> None:
        """Asks once more what was not answered, but for its request: of a cluster, one node may be
        away and the others not. Raises LimitsUnavailable."""
        if self._unanswered is not None:
            nobody = replace(self._unanswered, request_id=PROBE_ID)
            await self._enforcer.settle(nobody, Spending(0))

    async def heard(self, replicas: int) -> None:
        """A heartbeat was answered. Raises LimitsUnavailable."""
        self._count_replicas(replicas)
        if self._breaker.probed():
            self._back_since = self._clock()
            away_seconds = round(self._clock() - self._away_since, 1)
            self._metrics.limits_degraded(False)
            self._recounts.resume()
            log.warning("limits_exact_again", away_seconds=away_seconds, replicas=replicas)
        if self._breaker.closed:
            self._late.go_on()
            if self._stand_in is not None:
                self._rested = self._stand_in, self._clock()
                self._stand_in = None
                self._leases.move(self._enforcer)
                await self.renew()

    def _count_replicas(self, replicas: int) -> None:
        """After an outage the others' heartbeats are yet to come: until then they count on."""
        settled = self._breaker.closed and self._clock() - self._back_since >= LIFE_SECONDS
        if settled or replicas > self._share.replicas:
            self._share.replicas = max(1, replicas)
        self._metrics.replicas_seen(self._share.replicas)

    async def renew(self) -> None:
        """Renews what running requests hold. Raises LimitsUnavailable."""
        if self._stand_in is not None:
            await self._leases.renew(
                self._stand_in, of=self._share.of, everyone=not self._breaker.closed
            )
        if self._breaker.closed:
            # Those that ended meanwhile are settled again, which costs nothing twice.
            await self._leases.renew(
                self._enforcer, ended=lambda demand: self._late.add(demand, Spending(0))
            )

    async def run_renewals(self, seconds: float) -> None:
        """Every so many seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.renew()
            except LimitsUnavailable as error:
                self.failed(error)

    async def run_late(self) -> None:
        """Settles what could not be settled in its time, until it is cancelled."""
        await self._late.run(self.failed)
