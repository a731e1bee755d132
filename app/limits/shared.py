"""Limits of all replicas together, in Redis or Valkey (6.2 or newer, also as a cluster)."""

from collections.abc import Mapping

from app.limits.redis_lane import RedisLane, Script
from app.limits.redis_wire import Argument
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
    SubjectKind,
    Uncounted,
    tightest,
)

MICROSECONDS = 1_000_000

ADMIT, SETTLE, RENEW = Script("admit"), Script("settle"), Script("renew")
BEGIN_RECOUNT, FINISH_RECOUNT = Script("begin_recount"), Script("finish_recount")
ABANDON_RECOUNT = Script("abandon_recount")
HEARTBEAT = Script("heartbeat")

# As the scripts number them.
_UNCOUNTED = 3
_SCOPES = (Scope.REQUESTS, Scope.TOKENS, Scope.CONCURRENCY, Scope.DAY, Scope.MONTH)
_HEAD = 6  # numbers before those of the subjects, and as many for each


class SharedLimits:
    """Implements Enforcer. `prefix` begins the name of every key."""

    def __init__(
        self, lane: RedisLane, *, prefix: str, lease_seconds: float, recount_seconds: float
    ) -> None:
        self._lane = lane
        self._prefix = prefix
        self._lease_us = _us(lease_seconds)
        self._recount_us = _us(recount_seconds)

    async def admit(self, demand: Demand) -> Decision | Uncounted:
        arguments: list[Argument] = [
            demand.request_id,
            demand.tokens,
            demand.requests,
            self._lease_us,
            int(demand.reserving),
        ]
        for subject in demand.subjects:
            limits = subject.limits
            arguments += (
                limits.requests_per_minute or 0,
                limits.tokens_per_minute or 0,
                limits.concurrency or 0,
                limits.tokens_per_day or 0,
                limits.tokens_per_month or 0,
            )
        reply: list[int] = await self._lane.call(ADMIT, self._keys(*demand.subjects), arguments)
        if reply[0] == _UNCOUNTED:
            return Uncounted(demand.subjects[reply[1] - 1])
        return _decision(demand, reply)

    async def settle(self, demand: Demand, spending: Spending) -> Settled:
        arguments: list[Argument] = [
            demand.request_id,
            spending.certain_tokens,
            spending.unsure_tokens,
            int(spending.late),
        ]
        for subject in demand.subjects:
            arguments += _rates(subject)
        now, *due = await self._lane.call(SETTLE, self._keys(*demand.subjects), arguments)
        return Settled(
            now / MICROSECONDS,
            tuple(s for s, is_due in zip(demand.subjects, due, strict=True) if is_due),
        )

    async def renew(self, subject: Subject, holds: Mapping[str, int]) -> None:
        arguments: list[Argument] = [self._lease_us, *_rates(subject)]
        for request_id, tokens in holds.items():
            arguments += (request_id, tokens)
        await self._lane.call(RENEW, self._keys(subject), arguments)

    async def begin_recount(self, subject: Subject, *, patient: bool = False) -> float | None:
        state, _ = self._keys(subject)
        arguments = (self._recount_us, int(patient))
        began: int = await self._lane.call(BEGIN_RECOUNT, (state,), arguments)
        return began / MICROSECONDS if began else None

    async def finish_recount(
        self, subject: Subject, began: float, day_tokens: int, month_tokens: int
    ) -> bool:
        state, _ = self._keys(subject)
        arguments = (round(began * MICROSECONDS), day_tokens, month_tokens)
        return bool(await self._lane.call(FINISH_RECOUNT, (state,), arguments))

    async def abandon_recount(self, subject: Subject, began: float) -> None:
        state, _ = self._keys(subject)
        await self._lane.call(ABANDON_RECOUNT, (state,), (round(began * MICROSECONDS),))

    async def beat(self, replica: str, life_seconds: float) -> int:
        """Says that this replica lives, or with 0 that it goes; how many do."""
        replies: int = await self._lane.call(
            HEARTBEAT, (f"{self._prefix}replicas",), (replica, _us(life_seconds))
        )
        return replies

    def _keys(self, *subjects: Subject) -> list[str]:
        """State and leases of each; the tenant in braces puts them on one node of a cluster."""
        keys: list[str] = []
        for subject in subjects:
            state = f"{self._prefix}{{{subject.tenant}}}:{subject.kind}"
            if subject.kind is SubjectKind.KEY:
                state = f"{state}:{subject.id}"
            keys += (state, f"{state}:leases")
        return keys


def _decision(demand: Demand, reply: list[int]) -> Decision:
    requests: list[Bucket] = []
    tokens: list[Bucket] = []
    budget_left: list[int | None] = []
    due: list[Subject] = []
    at = _HEAD
    for subject in demand.subjects:
        r_left, r_us, t_left, t_us, left, is_due = reply[at : at + _HEAD]
        at += _HEAD
        limits = subject.limits
        if limits.requests_per_minute is not None:
            requests.append(Bucket(limits.requests_per_minute, r_left, r_us / MICROSECONDS))
        if limits.tokens_per_minute is not None:
            tokens.append(Bucket(limits.tokens_per_minute, t_left, t_us / MICROSECONDS))
        budget_left.append(left if left >= 0 else None)
        if is_due:
            due.append(subject)
    refusal = None
    if not reply[0]:
        _, culprit, scope, wait_us, limit, used = reply[:_HEAD]
        kind = _SCOPES[scope - 1]
        refusal = Refusal(
            demand.subjects[culprit - 1],
            kind,
            None if wait_us < 0 else wait_us / MICROSECONDS,
            limit,
            used,
            _asked(demand, kind),
        )
    standing = Standing(tightest(requests), tightest(tokens))
    return Decision(standing, refusal, tuple(budget_left), tuple(due))


def _asked(demand: Demand, scope: Scope) -> int:
    if scope is Scope.CONCURRENCY:
        return 1
    return demand.requests if scope is Scope.REQUESTS else demand.tokens


def _rates(subject: Subject) -> tuple[int, int]:
    limits = subject.limits
    return limits.requests_per_minute or 0, limits.tokens_per_minute or 0


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
