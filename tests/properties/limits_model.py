"""What limits have to do, said once more: in whole microseconds and fractions of units, without
rounding, and without regard to what it costs."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction

from app.limits.subjects import (
    Bucket,
    Decision,
    Demand,
    Scope,
    Settled,
    Spending,
    Subject,
    Uncounted,
)

SECOND = 1_000_000
WINDOW = 60 * SECOND
DAY = 86_400 * SECOND
RUNNING_WAIT = SECOND
# What doubles, and waits in whole microseconds, may add.
UNITS, SECONDS = 1e-5, 2e-6


def month_of(us: int) -> tuple[int, int]:
    date = datetime.fromtimestamp(us // SECOND, UTC)
    return date.year, date.month


@dataclass
class Lease:
    tokens: int
    ends_at: int
    charged: bool = True  # to the bucket, before Redis lost it


@dataclass
class Budget:
    day: int
    month: tuple[int, int]
    day_tokens: int
    month_tokens: int
    unsure: int = 0


@dataclass
class Recount:
    began: int
    unsure: int
    patient: bool
    since: int = 0


@dataclass
class Denial:
    """`wait` is in microseconds; None where waiting does not help."""

    subject: Subject
    scope: Scope
    limit: int
    used: Fraction
    requested: int
    wait: Fraction | None

    @property
    def rank(self) -> tuple[int, Fraction]:
        """What no waiting helps, then the longest wait for a rate, then what runs may bring."""
        if self.wait is None:
            return 3 if self.requested > self.limit else 2, Fraction(0)
        if self.scope in (Scope.REQUESTS, Scope.TOKENS):
            return 1, self.wait
        return 0, Fraction(self.scope is not Scope.CONCURRENCY)


@dataclass
class Account:
    """One subject's."""

    at: int
    requests: Fraction = Fraction(0)  # missing from the bucket
    tokens: Fraction = Fraction(0)
    leases: dict[str, Lease] = field(default_factory=dict)
    budget: Budget | None = None
    recount: Recount | None = None

    @property
    def held(self) -> int:
        return sum(lease.tokens for lease in self.leases.values())

    def roll(self, now: int) -> None:
        self.forget_later_days(now)
        budget, day, month = self.budget, now // DAY, month_of(now)
        if budget is None or budget.day == day:
            return
        if budget.month != month:
            budget.month, budget.month_tokens = month, 0
        budget.day, budget.day_tokens = day, 0

    def forget_later_days(self, now: int) -> None:
        """Where the clock stepped back only the audit log knows what was spent before."""
        if self.budget is not None and now // DAY < self.budget.day:
            self.budget = None

    def refill(self, subject: Subject, now: int) -> None:
        limits, elapsed = subject.limits, max(0, now - self.at)
        self.requests = _less(self.requests, limits.requests_per_minute, elapsed)
        self.tokens = _less(self.tokens, limits.tokens_per_minute, elapsed)
        for lease in self.leases.values():
            lease.ends_at -= max(0, self.at - now)
        self.at = now

    def reap(self, now: int) -> None:
        for request_id, lease in list(self.leases.items()):
            if lease.ends_at <= now:
                del self.leases[request_id]
                if self.budget is not None:
                    self.budget.unsure += lease.tokens

    @property
    def due(self) -> bool:
        return self.budget is not None and self.budget.unsure > 0


class Model:
    def __init__(self, moment: Callable[[], int], lease: int, recount: int) -> None:
        self._moment = moment
        self._lease = lease
        self._recount = recount
        self.accounts: dict[Subject, Account] = {}

    def account(self, subject: Subject) -> Account:
        return self.accounts.setdefault(subject, Account(self._moment()))

    def check_admit(self, demand: Demand, answer: Decision | Uncounted) -> None:
        """Follows, and fails where the answer is another than it has to be."""
        now = self._moment()
        accounts = [(subject, self.account(subject)) for subject in demand.subjects]
        for subject, account in accounts:
            account.roll(now)
            account.refill(subject, now)
            account.reap(now)
        again = demand.reserving and any(demand.request_id in a.leases for _, a in accounts)
        unknown = [s for s, account in accounts if s.budgeted and account.budget is None]
        if not again and demand.tokens and unknown:
            assert answer == Uncounted(unknown[0])
            return
        assert isinstance(answer, Decision)
        denials = [] if again else [d for s, a in accounts for d in _denials(s, a, demand)]
        _check_refusal(denials, answer)
        if not denials and not again:
            for subject, account in accounts:
                if subject.limits.requests_per_minute is not None:
                    account.requests += demand.requests
                if subject.limits.tokens_per_minute is not None:
                    account.tokens += demand.tokens
                if demand.reserving:
                    account.leases[demand.request_id] = Lease(demand.tokens, now + self._lease)
        requests = [
            _bucket(limit, account.requests)
            for subject, account in accounts
            if (limit := subject.limits.requests_per_minute) is not None
        ]
        tokens = [
            _bucket(limit, account.tokens)
            for subject, account in accounts
            if (limit := subject.limits.tokens_per_minute) is not None
        ]
        _check_bucket(requests, answer.standing.requests)
        _check_bucket(tokens, answer.standing.tokens)
        assert answer.budget_left == tuple(_left(s, account) for s, account in accounts)
        assert answer.due == tuple(s for s, account in accounts if account.due)

    def check_settle(self, demand: Demand, spending: Spending, answer: Settled) -> None:
        now, due = self._moment(), []
        for subject in demand.subjects:
            account = self.account(subject)
            if demand.request_id not in account.leases:
                due.append(subject)
                continue
            account.roll(now)
            account.refill(subject, now)
            lease = account.leases.pop(demand.request_id)
            used = spending.certain_tokens + spending.unsure_tokens
            if lease.charged and subject.limits.tokens_per_minute is not None:
                account.tokens = max(Fraction(0), account.tokens + used - lease.tokens)
            if spending.late:
                due.append(subject)
                continue
            if account.budget is not None:
                account.budget.day_tokens += spending.certain_tokens
                account.budget.month_tokens += spending.certain_tokens
                account.budget.unsure += spending.unsure_tokens
            if account.recount is not None:
                account.recount.since += spending.certain_tokens
            if account.due:
                due.append(subject)
        assert answer == Settled(now / SECOND, tuple(due))

    def renew(self, subject: Subject, holds: Mapping[str, int]) -> None:
        now, account = self._moment(), self.account(subject)
        account.roll(now)
        account.refill(subject, now)
        for request_id, tokens in holds.items():
            lease = account.leases.setdefault(request_id, Lease(tokens, 0, charged=False))
            lease.ends_at = now + self._lease

    def check_begin(self, subject: Subject, patient: bool, answer: float | None) -> None:
        now, account = self._moment(), self.account(subject)
        account.forget_later_days(now)
        running = account.recount
        under_way = running is not None and 0 <= now - running.began < self._recount
        if under_way and (patient or (running is not None and not running.patient)):
            assert answer is None
            return
        unsure = 0 if account.budget is None else account.budget.unsure
        account.recount = Recount(now, unsure, patient)
        assert answer == now / SECOND

    def check_finish(
        self, subject: Subject, began: float, day: int, month: int, answer: bool
    ) -> None:
        now, account = self._moment(), self.account(subject)
        account.forget_later_days(now)
        recount = account.recount
        if recount is None or recount.began / SECOND != began:
            assert answer is False
            return
        account.recount = None
        if now < recount.began or now // DAY != recount.began // DAY:
            assert answer is False
            return
        account.roll(now)
        known = account.budget or Budget(now // DAY, month_of(now), 0, 0)
        # The log may be behind what was settled, and is never ahead of it.
        account.budget = Budget(
            now // DAY,
            month_of(now),
            max(known.day_tokens, day + recount.since),
            max(known.month_tokens, month + recount.since),
            max(0, known.unsure - recount.unsure),
        )
        assert answer is True

    def abandon(self, subject: Subject, began: float) -> None:
        account = self.account(subject)
        account.forget_later_days(self._moment())
        if account.recount is not None and account.recount.began / SECOND == began:
            account.recount = None


def _less(missing: Fraction, limit: int | None, elapsed: int) -> Fraction:
    return (
        Fraction(0)
        if limit is None
        else max(Fraction(0), missing - Fraction(elapsed * limit, WINDOW))
    )


def _denials(subject: Subject, account: Account, demand: Demand) -> Iterator[Denial]:
    limits, tokens = subject.limits, demand.tokens

    def denial(
        scope: Scope, limit: int, used: Fraction | int, cost: int, wait: Fraction | int | None
    ) -> Denial:
        waiting = None if wait is None else Fraction(wait)
        return Denial(subject, scope, limit, Fraction(used), cost, waiting)

    for scope, rate, missing, cost in (
        (Scope.REQUESTS, limits.requests_per_minute, account.requests, demand.requests),
        (Scope.TOKENS, limits.tokens_per_minute, account.tokens, tokens),
    ):
        if rate is None or not cost:
            continue
        if cost > rate:
            yield denial(scope, rate, missing, cost, None)
        elif missing + cost > rate:
            yield denial(scope, rate, missing, cost, (missing + cost - rate) * WINDOW / rate)
    budget = account.budget
    if budget is not None and tokens:
        for scope, limit, spent in (
            (Scope.DAY, limits.tokens_per_day, budget.day_tokens),
            (Scope.MONTH, limits.tokens_per_month, budget.month_tokens),
        ):
            used = spent + budget.unsure + account.held
            if limit is not None and used + tokens > limit:
                helps = used - account.held + tokens <= limit
                yield denial(scope, limit, used, tokens, RUNNING_WAIT if helps else None)
    running = len(account.leases)
    if demand.reserving and limits.concurrency is not None and running >= limits.concurrency:
        yield denial(Scope.CONCURRENCY, limits.concurrency, running, 1, RUNNING_WAIT)


def _check_refusal(denials: list[Denial], answer: Decision) -> None:
    refusal = answer.refusal
    if not denials:
        assert refusal is None
        return
    assert refusal is not None
    told = [d for d in denials if (d.subject, d.scope) == (refusal.subject, refusal.scope)]
    assert told, f"told {refusal}, but {denials}"
    denial = told[0]
    worst = max(d.rank for d in denials)
    # Two waits may differ by less than doubles can tell.
    assert denial.rank[0] == worst[0]
    assert worst[1] - denial.rank[1] <= 1
    assert (refusal.limit, refusal.requested) == (denial.limit, denial.requested)
    assert refusal.used in (math.ceil(denial.used - UNITS), math.ceil(denial.used + UNITS))
    if denial.wait is None:
        assert refusal.wait_seconds is None
    else:
        assert refusal.wait_seconds is not None
        assert abs(refusal.wait_seconds - denial.wait / SECOND) <= SECONDS


def _bucket(limit: int, missing: Fraction) -> tuple[Fraction, Bucket]:
    """What is left without rounding, and as it has to be told."""
    left = max(Fraction(0), limit - missing)
    return left, Bucket(limit, math.floor(left), float(missing * WINDOW / limit / SECOND))


def _check_bucket(buckets: list[tuple[Fraction, Bucket]], told: Bucket | None) -> None:
    if not buckets:
        assert told is None
        return
    assert told is not None
    least = min(bucket.remaining for _, bucket in buckets)
    for left, bucket in buckets:
        rounded = math.floor(left + UNITS)
        near = replace(bucket, remaining=rounded)
        if told.limit == bucket.limit and told.remaining in (bucket.remaining, rounded):
            assert abs(told.reset_seconds - near.reset_seconds) <= SECONDS
            assert bucket.remaining - least <= 1
            return
    raise AssertionError(f"told {told}, but {buckets}")


def _left(subject: Subject, account: Account) -> int | None:
    budget, limits = account.budget, subject.limits
    if budget is None:
        return None
    taken = budget.unsure + account.held
    rooms = []
    if (of_day := limits.tokens_per_day) is not None:
        rooms.append(of_day - budget.day_tokens - taken)
    if (of_month := limits.tokens_per_month) is not None:
        rooms.append(of_month - budget.month_tokens - taken)
    return max(0, min(rooms)) if rooms else None
