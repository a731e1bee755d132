"""Limits kept in this process: where there is no Redis, and a replica's share while it is away.

It decides as the scripts in `lua/` do; one state machine tests both.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.limits import gcra
from app.limits.subjects import (
    Bucket,
    Decision,
    Demand,
    Refusal,
    Scope,
    Settled,
    Spending,
    Standing,
    Subject,
    Uncounted,
    tightest,
)
from app.store.policy import Limits

# When a running request will end is not known; nor what it gives back of a budget.
RUNNING_WAIT_SECONDS = 1.0

# Of a budget that nobody asks about; to be counted again costs a query of the audit log.
BUDGET_KEPT_SECONDS = 3600.0

# A request may be settled after its lease has ended, if only its renewals failed.
_DEAD_LEASE_KEPT_SECONDS = 600.0

# Subjects looked at in each admission. At most two are new, so those that went idle are forgotten
# faster than others can come.
_EXAMINED_PER_ADMISSION = 4


@dataclass(slots=True)
class _Budget:
    """Tokens, of one day and one month of UTC. `unsure` counts until a recount."""

    day: int
    month: int
    day_tokens: int = 0
    month_tokens: int = 0
    unsure_tokens: int = 0

    def roll(self, day: int, month: int) -> None:
        if self.month != month:
            self.month, self.month_tokens = month, 0
        if self.day != day:
            self.day, self.day_tokens = day, 0


@dataclass(slots=True)
class _Recount:
    began: float
    unsure_tokens: int
    patient: bool
    since_tokens: int = 0


@dataclass(slots=True)
class _Lease:
    tokens: int
    ends_at: float
    charged: bool  # to the bucket that is here; else nothing comes back to it


@dataclass(slots=True)
class _State:
    subject: Subject  # with its limits as they were last asked about
    at: float  # when `requests` and `tokens` were missing
    asked_at: float
    requests: float = 0.0
    tokens: float = 0.0
    held_tokens: int = 0
    leases: dict[str, _Lease] = field(default_factory=dict)  # by request id
    budget: _Budget | None = None
    recount: _Recount | None = None

    def advance(self, now: float) -> None:
        self.requests, self.tokens = self._missing(self.subject.limits, now)
        self.at, self.asked_at = now, now
        if self.budget is not None:
            self.budget.roll(*_period(now))

    def _missing(self, limits: Limits, now: float) -> tuple[float, float]:
        elapsed = now - self.at
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        return (
            0.0 if requests is None else gcra.missing(self.requests, requests, elapsed),
            0.0 if tokens is None else gcra.missing(self.tokens, tokens, elapsed),
        )

    def bind(self, subject: Subject) -> None:
        """The limits that hold from now on. Where a rate was lowered, as much time is missing."""
        before, limits, self.subject = self.subject.limits, subject.limits, subject
        self.requests = gcra.lowered(
            self.requests, before.requests_per_minute, limits.requests_per_minute
        )
        self.tokens = gcra.lowered(self.tokens, before.tokens_per_minute, limits.tokens_per_minute)

    def reap(self, now: float) -> None:
        """Ends leases that nobody renewed. What they held counts until a recount."""
        for request_id in [i for i, lease in self.leases.items() if lease.ends_at <= now]:
            tokens = self.end(request_id).tokens
            if self.budget is not None:
                self.budget.unsure_tokens += tokens

    def hold(self, request_id: str, lease: _Lease) -> None:
        self.leases[request_id] = lease
        self.held_tokens += lease.tokens

    def end(self, request_id: str) -> _Lease:
        lease = self.leases.pop(request_id)
        self.held_tokens -= lease.tokens
        return lease

    def spend(self, tokens: int) -> None:
        if self.budget is not None:
            self.budget.day_tokens += tokens
            self.budget.month_tokens += tokens
        if self.recount is not None:
            self.recount.since_tokens += tokens

    def idle(self, now: float) -> bool:
        """Nothing is lost if it is forgotten, but for a budget that was counted."""
        if self.recount is not None or any(self._missing(self.subject.limits, now)):
            return False
        return all(now - lease.ends_at > _DEAD_LEASE_KEPT_SECONDS for lease in self.leases.values())

    @property
    def due(self) -> bool:
        return self.budget is not None and self.budget.unsure_tokens > 0


class LocalLimits:
    """Implements Enforcer, and never raises. `now` gives seconds since the epoch, and never steps.

    Where it stands in for Redis (`standing_in`) it asks for no counting of budgets, and lets one
    request pass that is larger than this replica's share of a rate, when the share is unused.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        lease_seconds: float,
        recount_seconds: float,
        standing_in: bool = False,
    ) -> None:
        self._now = now
        self._lease_seconds = lease_seconds
        self._recount_seconds = recount_seconds
        self._standing_in = standing_in
        self._states: OrderedDict[Subject, _State] = OrderedDict()

    @property
    def subjects(self) -> int:
        """How many subjects are remembered."""
        return len(self._states)

    async def admit(self, demand: Demand) -> Decision | Uncounted:
        now = self._now()
        self._forget_idle(now)
        states = [(subject, self._state(subject, now)) for subject in demand.subjects]
        for subject, state in states:
            state.bind(subject)
            state.reap(now)
        reserving = demand.reserving
        if reserving and any(demand.request_id in state.leases for _, state in states):
            return _decision(states, None)
        if demand.tokens and (uncounted := self._uncounted(states, now)) is not None:
            return Uncounted(uncounted)
        refusal = _worst([r for s, state in states for r in self._refusals(s, state, demand)])
        if refusal is None:
            for subject, state in states:
                if subject.limits.requests_per_minute is not None:
                    state.requests += demand.requests
                if subject.limits.tokens_per_minute is not None:
                    state.tokens += demand.tokens
                if reserving:
                    lease = _Lease(demand.tokens, now + self._lease_seconds, charged=True)
                    state.hold(demand.request_id, lease)
        return _decision(states, refusal)

    async def settle(self, demand: Demand, spending: Spending) -> Settled:
        now = self._now()
        due = []
        for subject in demand.subjects:
            state = self._state(subject, now)
            if demand.request_id not in state.leases:
                due.append(subject)
                continue
            lease = state.end(demand.request_id)
            used = spending.certain_tokens + spending.unsure_tokens
            if lease.charged and state.subject.limits.tokens_per_minute is not None:
                state.tokens = max(0.0, state.tokens + used - lease.tokens)
            if self._standing_in and not lease.charged:
                continue  # Redis had it in its budget before it went
            if spending.late:
                due.append(subject)
                continue
            state.spend(spending.certain_tokens)
            if state.budget is not None:
                state.budget.unsure_tokens += spending.unsure_tokens
            if state.due:
                due.append(subject)
        return Settled(now, tuple(due))

    async def renew(self, subject: Subject, holds: Mapping[str, int]) -> None:
        now = self._now()
        state = self._state(subject, now)
        for request_id, tokens in holds.items():
            if (lease := state.leases.get(request_id)) is not None:
                lease.ends_at = now + self._lease_seconds
            else:
                # Of a budget Redis has told what is left, without what was held.
                held = 0 if self._standing_in else tokens
                ends_at = now + self._lease_seconds
                state.hold(request_id, _Lease(held, ends_at, charged=False))

    async def begin_recount(self, subject: Subject, *, patient: bool = False) -> float | None:
        now = self._now()
        state = self._state(subject, now)
        running = state.recount
        if (
            running is not None
            and 0 <= now - running.began < self._recount_seconds
            and (patient or not running.patient)
        ):
            return None
        unsure = 0 if state.budget is None else state.budget.unsure_tokens
        state.recount = _Recount(now, unsure, patient)
        return now

    async def finish_recount(
        self, subject: Subject, began: float, day_tokens: int, month_tokens: int
    ) -> bool:
        now = self._now()
        state = self._state(subject, now)
        recount = state.recount
        if recount is None or recount.began != began:
            return False
        state.recount = None
        if _period(began) != _period(now):
            return False
        known = state.budget or _Budget(*_period(now))
        # The log is never ahead of what was settled, but may be behind.
        state.budget = _Budget(
            *_period(now),
            max(known.day_tokens, day_tokens + recount.since_tokens),
            max(known.month_tokens, month_tokens + recount.since_tokens),
            max(0, known.unsure_tokens - recount.unsure_tokens),
        )
        return True

    async def abandon_recount(self, subject: Subject, began: float) -> None:
        state = self._state(subject, self._now())
        if state.recount is not None and state.recount.began == began:
            state.recount = None

    def _state(self, subject: Subject, now: float) -> _State:
        state = self._states.get(subject)
        if state is None:
            state = self._states[subject] = _State(subject, now, now)
        state.advance(now)
        return state

    def _uncounted(self, states: list[tuple[Subject, _State]], now: float) -> Subject | None:
        for subject, state in states:
            if subject.budgeted and state.budget is None:
                if not self._standing_in:
                    return subject
                state.budget = _Budget(*_period(now))
        return None

    def _forget_idle(self, now: float) -> None:
        for _ in range(min(_EXAMINED_PER_ADMISSION, len(self._states))):
            subject, state = self._states.popitem(last=False)
            # An allowance that was spent while Redis is away stays spent.
            kept = self._standing_in or now - state.asked_at < BUDGET_KEPT_SECONDS
            if not state.idle(now) or (state.budget is not None and kept):
                self._states[subject] = state  # to the end of the line

    def _refusals(self, subject: Subject, state: _State, demand: Demand) -> list[Refusal]:
        limits = subject.limits
        found = [
            self._of_rate(subject, scope, rate, used, cost)
            for scope, rate, used, cost in (
                (Scope.REQUESTS, limits.requests_per_minute, state.requests, demand.requests),
                (Scope.TOKENS, limits.tokens_per_minute, state.tokens, demand.tokens),
            )
            if rate is not None and cost
        ]
        if state.budget is not None and demand.tokens:
            found += [
                _of_budget(subject, scope, budget, spent, state, demand.tokens)
                for scope, budget, spent in (
                    (Scope.DAY, limits.tokens_per_day, state.budget.day_tokens),
                    (Scope.MONTH, limits.tokens_per_month, state.budget.month_tokens),
                )
                if budget is not None
            ]
        most, running = limits.concurrency, len(state.leases)
        if demand.reserving and most is not None and running >= most:
            wait = RUNNING_WAIT_SECONDS
            found.append(Refusal(subject, Scope.CONCURRENCY, wait, most, running, 1))
        return [refusal for refusal in found if refusal is not None]

    def _of_rate(
        self, subject: Subject, scope: Scope, rate: int, used: float, cost: int
    ) -> Refusal | None:
        if self._standing_in and not gcra.fits(rate, cost):
            cost = rate  # a full share lets it pass, and the rest is owed
        if not gcra.fits(rate, cost):
            return Refusal(subject, scope, None, rate, math.ceil(used), cost)
        wait = gcra.wait_seconds(used, rate, cost)
        return Refusal(subject, scope, wait, rate, math.ceil(used), cost) if wait else None


def _of_budget(
    subject: Subject, scope: Scope, budget: int, spent: int, state: _State, tokens: int
) -> Refusal | None:
    sure = spent + (0 if state.budget is None else state.budget.unsure_tokens)
    used = sure + state.held_tokens
    if used + tokens <= budget:
        return None
    # What running requests hold may come back.
    wait = RUNNING_WAIT_SECONDS if sure + tokens <= budget else None
    return Refusal(subject, scope, wait, budget, used, tokens)


def _worst(refusals: list[Refusal]) -> Refusal | None:
    """What no waiting helps comes first, then the longest wait of a rate, and what running requests
    hold comes last."""

    def rank(refusal: Refusal) -> tuple[float, float]:
        if refusal.wait_seconds is None:
            return (3 if refusal.too_large else 2), 0.0
        if refusal.scope in (Scope.REQUESTS, Scope.TOKENS):
            return 1, refusal.wait_seconds
        return 0, (0.0 if refusal.scope is Scope.CONCURRENCY else 1.0)

    return max(refusals, key=rank, default=None)


def _decision(states: list[tuple[Subject, _State]], refusal: Refusal | None) -> Decision:
    requests, tokens = [], []
    left: list[int | None] = []
    for subject, state in states:
        if (limit := subject.limits.requests_per_minute) is not None:
            requests.append(_bucket(limit, state.requests))
        if (limit := subject.limits.tokens_per_minute) is not None:
            tokens.append(_bucket(limit, state.tokens))
        left.append(_budget_left(subject, state))
    standing = Standing(tightest(requests), tightest(tokens))
    return Decision(standing, refusal, tuple(left), tuple(s for s, state in states if state.due))


def _bucket(limit: int, missing: float) -> Bucket:
    return Bucket(limit, gcra.remaining(missing, limit), gcra.fill_seconds(missing, limit))


def _budget_left(subject: Subject, state: _State) -> int | None:
    budget, limits = state.budget, subject.limits
    if budget is None:
        return None
    used = budget.unsure_tokens + state.held_tokens
    left = [
        max(0, limit - spent - used)
        for limit, spent in (
            (limits.tokens_per_day, budget.day_tokens),
            (limits.tokens_per_month, budget.month_tokens),
        )
        if limit is not None
    ]
    return min(left, default=None)


def _period(moment: float) -> tuple[int, int]:
    """Days since 1970 and months since year 0, of UTC."""
    date = datetime.fromtimestamp(moment, UTC)
    return int(moment // 86_400), date.year * 12 + date.month - 1
