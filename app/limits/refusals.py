"""What a client is told whose request a limit refused."""

import math
import random
from collections.abc import Callable

from app.errors import RateLimited, Unavailable
from app.limits.subjects import Refusal, Scope, Standing, SubjectKind

# SDKs obey a retry-after of 1 to 60 s. A longer one is ignored by one of them, which then tries
# again at once, and ends the retries of another.
MIN_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0
# Clients that were refused together do not come back together.
JITTER = 0.25

LIMITS_AWAY_RETRY_SECONDS = 10.0  # Redis is usually back by then, and this costs nobody anything

_NAMES = {
    Scope.REQUESTS: "requests per min (RPM)",
    Scope.TOKENS: "tokens per min (TPM)",
    Scope.CONCURRENCY: "concurrent requests",
    Scope.DAY: "tokens per day",
    Scope.MONTH: "tokens per month",
}


class LimitReached(RateLimited):
    """`standing` is what the key has left, for the headers."""

    def __init__(
        self,
        message: str,
        refusal: Refusal,
        standing: Standing,
        *,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            retry_after_seconds=retry_after_seconds,
            should_retry=should_retry,
        )
        self.refusal = refusal
        self.standing = standing


class QuotaReached(LimitReached):
    """No waiting that a client could do helps: it is told not to try again."""

    type = "insufficient_quota"
    default_code = "insufficient_quota"


class BudgetUnknown(Unavailable):
    """While Redis is away a budget may be spent up to its allowance, and that is spent."""

    default_code = "budget_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The token budget of this API key cannot be checked at the moment. Please try again "
            "later.",
            retry_after_seconds=LIMITS_AWAY_RETRY_SECONDS,
        )


def limit_reached(
    refusal: Refusal, standing: Standing, draw: Callable[[], float] = random.random
) -> LimitReached:
    """`draw` gives numbers from 0 to 1, for the jitter."""
    where = f"{_whom(refusal)} on {_NAMES[refusal.scope]}"
    if refusal.too_large:
        return QuotaReached(
            f"Request too large for {where}: Limit {refusal.limit}, Requested "
            f"{refusal.requested}. The input or output tokens must be reduced in order to run "
            "successfully.",
            refusal,
            standing,
            should_retry=False,
        )
    numbers = f"Limit {refusal.limit}, Used {refusal.used}, Requested {refusal.requested}."
    wait = refusal.wait_seconds
    if wait is None:
        period = "day" if refusal.scope is Scope.DAY else "month"
        return QuotaReached(
            f"You exceeded your current quota: {where}: {numbers} It begins anew with the next "
            f"{period} (UTC).",
            refusal,
            standing,
            should_retry=False,
        )
    spread = max(wait, MIN_RETRY_SECONDS) * (1 + JITTER * draw())
    return LimitReached(
        f"Rate limit reached for {where}: {numbers} Please try again in {spoken(wait)}.",
        refusal,
        standing,
        retry_after_seconds=min(spread, MAX_RETRY_SECONDS),
    )


def _whom(refusal: Refusal) -> str:
    subject = refusal.subject
    return subject.id if subject.kind is SubjectKind.KEY else f"tenant {subject.id}"


def spoken(seconds: float) -> str:
    """As OpenAI writes it and clients parse it (`1.5s`, `20ms`), never shorter than the wait."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
