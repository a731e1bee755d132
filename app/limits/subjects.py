"""What limits are asked, and what they answer. All values are frozen, whoever enforces them."""

from dataclasses import dataclass, field
from enum import StrEnum

from app.store.policy import Limits


class Scope(StrEnum):
    """The limit that refused."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"
    DAY = "day"  # a budget of tokens
    MONTH = "month"


class SubjectKind(StrEnum):
    KEY = "key"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom limits bind. Subjects of one tenant are decided together."""

    kind: SubjectKind
    id: str
    tenant: str
    limits: Limits = field(compare=False, hash=False)

    @property
    def budgeted(self) -> bool:
        return self.limits.tokens_per_day is not None or self.limits.tokens_per_month is not None

    @property
    def limited(self) -> bool:
        limits = self.limits
        return (
            limits.requests_per_minute is not None
            or limits.tokens_per_minute is not None
            or limits.concurrency is not None
            or self.budgeted
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """One request, against all limits of its key and of its tenant.

    Not `reserving`, it is only counted: a request that was refused before it came to its tokens.
    """

    request_id: str
    subjects: tuple[Subject, ...]  # of one tenant, each of them limited
    tokens: int
    requests: int = 1
    reserving: bool = True


@dataclass(frozen=True, slots=True)
class Bucket:
    """As the `x-ratelimit` headers tell it. `reset_seconds` is the time until it is full."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the subjects asked about, the bucket with the least left; None where none is limited."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


NO_STANDING = Standing()


@dataclass(frozen=True, slots=True)
class Refusal:
    """`wait_seconds` is None where no waiting helps: the bucket never holds as much, or the
    budget's day or month has to end."""

    subject: Subject
    scope: Scope
    wait_seconds: float | None
    limit: int
    used: int
    requested: int

    @property
    def too_large(self) -> bool:
        return self.requested > self.limit


@dataclass(frozen=True, slots=True)
class Decision:
    """`budget_left` is what a budget still holds after this, by subject; `due` are the subjects of
    which a part of the budget is not known for sure."""

    standing: Standing
    refusal: Refusal | None = None
    budget_left: tuple[int | None, ...] = ()
    due: tuple[Subject, ...] = ()


@dataclass(frozen=True, slots=True)
class Uncounted:
    """The subject's budget is not known yet: it has to be counted from the audit log first."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class Settled:
    """`at` is when, in seconds since the epoch by the clock of whoever enforces the limits."""

    at: float
    due: tuple[Subject, ...] = ()


@dataclass(frozen=True, slots=True)
class Spending:
    """What a request used: for certain, and perhaps besides. Tokens, weighed as budgets do.

    `late`: it was audited as spent at an earlier moment, so that a budget learns of it by a recount
    and not by this.
    """

    certain_tokens: int
    unsure_tokens: int = 0
    late: bool = False


def tightest(buckets: list[Bucket]) -> Bucket | None:
    """The one with the least left."""
    return min(buckets, key=lambda bucket: bucket.remaining, default=None)
