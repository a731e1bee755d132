"""An API key: as a request meets it, as an operator sees it, and how it may be changed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StringConstraints
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from app.store.plan import PlanName
from app.store.policy import NO_LIMITS, Limits, Policy
from app.store.tenant import AuditOnFailure, Tenant

# One line that can be printed: Postgres refuses NUL, a terminal obeys the rest of them.
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\p{Cc}]+$")]

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that was valid when it was read. `policy` is the effective one: the key's own over its
    plan's. `expires_at` is the earlier of the key's own end and the end of the secret that was
    shown, which passes while the key lies in a cache."""

    id: str
    tenant: str
    name: str
    policy: Policy
    expires_at: datetime | None = None
    plan: str | None = None
    tenant_limits: Limits = NO_LIMITS
    tenant_audit_on_failure: AuditOnFailure = "closed"

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """One of a key's secrets, told apart by its hint: `sk-qw-...wxyz`."""

    hint: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """All that is stored of a key, but for the digests of its secrets. Newest secret first.
    `policy` is the key's own, `effective_policy` is that over its plan's."""

    id: str
    tenant: str
    name: str
    enabled: bool
    plan: str | None
    policy: Policy
    effective_policy: Policy
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    secrets: tuple[SecretRecord, ...]


class KeyDraft(BaseModel):
    """A key to be created."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    tenant: Tenant = DEFAULT_TENANT
    enabled: StrictBool = True
    expires_at: AwareDatetime | None = Field(
        default=None, description="Unix seconds, or a date and time with its offset."
    )
    plan: PlanName | None = Field(default=None, description="What `policy` leaves open.")
    policy: Policy = Policy()


class KeyChanges(TypedDict, total=False):
    """What to change of a key: only what is named. Of the policy, too, only the fields that are
    named change, and null takes a limit away; so does null for the plan."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way

    name: Name
    enabled: StrictBool
    expires_at: AwareDatetime | None
    plan: PlanName | None
    policy: Policy
