"""The limits of API keys, kept in this process.

Requests and tokens per minute are rates with bursts (`gcra`); concurrency is a set of leases. All
are decided together, and a refusal takes nothing.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from app.errors import RateLimited
from app.limits import gcra
from app.store.policy import Policy

# SDKs obey a retry-after of 1 to 60 s. A longer one is ignored by one of them, which then tries
# again at once, and ends the retries of another.
MIN_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0

# When one of a key's running requests will end is not known.
CONCURRENCY_RETRY_SECONDS = 1.0

# Longer than any answer: 1,010,000 tokens take 42 minutes to read, at the slowest prefill borne. A
# lease that is never settled, by a defect, blocks its key no longer than this.
LEASE_SECONDS = 4 * 3600.0

# Subjects looked at in each admission. At most one is new, so those that went idle are forgotten
# faster than others can come.
_EXAMINED_PER_ADMISSION = 2


class Scope(StrEnum):
    """The limit that refused."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


class LimitReached(RateLimited):
    def __init__(
        self,
        message: str,
        scope: Scope,
        *,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(
            message, retry_after_seconds=retry_after_seconds, should_retry=should_retry
        )
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Reservation:
    """What an admitted request holds until it is settled.

    `tokens_per_minute` is the limit at admission: what is given back is counted as it was taken,
    even if the policy has changed meanwhile. It is None where the tokens are not limited.
    """

    subject: str
    request_id: str
    cost_tokens: int
    tokens_per_minute: int | None


@dataclass(slots=True)
class _Lease:
    reservation: Reservation
    expires_at: float


@dataclass(slots=True)
class _Subject:
    requests_full_at: float = 0.0
    tokens_full_at: float = 0.0
    leases: dict[str, _Lease] = field(default_factory=dict)  # by request id

    def reap(self, now: float) -> None:
        """Ends the leases that nobody settled. Their tokens stay charged."""
        expired = [key for key, lease in self.leases.items() if lease.expires_at <= now]
        for request_id in expired:
            del self.leases[request_id]

    def idle(self, now: float) -> bool:
        if self.requests_full_at > now or self.tokens_full_at > now:
            return False
        return all(lease.expires_at <= now for lease in self.leases.values())


class LocalLimits:
    """`clock` gives monotonic seconds. Not for use from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._subjects: OrderedDict[str, _Subject] = OrderedDict()

    @property
    def subjects(self) -> int:
        """How many subjects are remembered."""
        return len(self._subjects)

    def admit(self, subject: str, request_id: str, policy: Policy, cost_tokens: int) -> Reservation:
        """Takes one request, `cost_tokens` and a lease from what `policy` allows the subject.

        Asked twice with the same request id, it takes once. Raises LimitReached.
        """
        reservation = Reservation(subject, request_id, cost_tokens, policy.tokens_per_minute)
        if (
            policy.requests_per_minute is None
            and policy.tokens_per_minute is None
            and policy.concurrency is None
        ):
            return reservation
        now = self._clock()
        self._forget_idle(now)
        state = self._subjects.get(subject) or _Subject()
        if (held := state.leases.get(request_id)) is not None:
            return held.reservation
        _check(state, subject, policy, cost_tokens, now)

        if (limit := policy.requests_per_minute) is not None:
            state.requests_full_at = gcra.take(state.requests_full_at, limit, 1, now)
        if (limit := policy.tokens_per_minute) is not None:
            state.tokens_full_at = gcra.take(state.tokens_full_at, limit, cost_tokens, now)
        state.leases[request_id] = _Lease(reservation, now + LEASE_SECONDS)
        self._subjects[subject] = state
        return reservation

    def settle(self, reservation: Reservation, used_tokens: int) -> None:
        """Ends the lease and trues the tokens up: unused ones come back, an overrun is owed.

        Idempotent. Of a lease that was reaped, the reserved tokens stay charged.
        """
        state = self._subjects.get(reservation.subject)
        if state is None or state.leases.pop(reservation.request_id, None) is None:
            return
        limit = reservation.tokens_per_minute
        unused = reservation.cost_tokens - used_tokens
        if limit is None or unused == 0:
            return
        now = self._clock()
        if unused > 0:
            state.tokens_full_at = gcra.give_back(state.tokens_full_at, limit, unused, now)
        else:
            state.tokens_full_at = gcra.take(state.tokens_full_at, limit, -unused, now)

    def _forget_idle(self, now: float) -> None:
        for _ in range(min(_EXAMINED_PER_ADMISSION, len(self._subjects))):
            name, state = self._subjects.popitem(last=False)
            if not state.idle(now):
                self._subjects[name] = state  # to the end of the line


def _check(state: _Subject, subject: str, policy: Policy, cost_tokens: int, now: float) -> None:
    """Raises LimitReached for the first limit that does not allow it; changes nothing else."""
    if (limit := policy.tokens_per_minute) is not None and not gcra.fits(limit, cost_tokens):
        raise LimitReached(
            f"Request too large for {subject} on tokens per min (TPM): Limit {limit}, Requested "
            f"{cost_tokens}. The input or output tokens must be reduced in order to run "
            "successfully.",
            Scope.TOKENS,
            should_retry=False,
        )
    if (limit := policy.requests_per_minute) is not None:
        _check_rate(state.requests_full_at, limit, 1, now, subject, Scope.REQUESTS)
    if (limit := policy.tokens_per_minute) is not None:
        _check_rate(state.tokens_full_at, limit, cost_tokens, now, subject, Scope.TOKENS)
    if (limit := policy.concurrency) is not None and len(state.leases) >= limit:
        state.reap(now)
        if len(state.leases) >= limit:
            raise LimitReached(
                f"Rate limit reached for {subject} on concurrent requests: Limit {limit}, Used "
                f"{len(state.leases)}, Requested 1. Please try again in "
                f"{_spoken(CONCURRENCY_RETRY_SECONDS)}.",
                Scope.CONCURRENCY,
                retry_after_seconds=CONCURRENCY_RETRY_SECONDS,
            )


def _check_rate(
    full_at: float, limit: int, units: int, now: float, subject: str, scope: Scope
) -> None:
    wait = gcra.wait_seconds(full_at, limit, units, now)
    if wait == 0:
        return
    rate = "requests per min (RPM)" if scope is Scope.REQUESTS else "tokens per min (TPM)"
    raise LimitReached(
        f"Rate limit reached for {subject} on {rate}: Limit {limit}, Used "
        f"{gcra.used_units(full_at, limit, now)}, Requested {units}. Please try again in "
        f"{_spoken(wait)}.",
        scope,
        retry_after_seconds=min(max(wait, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS),
    )


def _spoken(seconds: float) -> str:
    """As OpenAI writes it and clients parse it (`1.5s`, `20ms`), never shorter than the wait."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
