"""A tenant that has settings of its own: limits over all of its keys together, and what becomes of
its requests while nothing can be recorded."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, StringConstraints
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from app.store.policy import Limits

Tenant = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[0-9A-Za-z._:@/-]+$")
]
# While the audit log cannot be written: requests are refused, or served with no more kept of them
# than who asked for what, and that only in memory until it can be written again.
AuditOnFailure = Literal["closed", "open_metadata"]


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """`keys` is how many it has; those that are revoked do not count."""

    name: str
    limits: Limits
    audit_on_failure: AuditOnFailure
    keys: int
    created_at: datetime
    updated_at: datetime


class TenantChanges(TypedDict, total=False):
    """What to change of a tenant: only what is named. Of the limits, too, only those that are named
    change, and null takes one away."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way

    limits: Limits
    audit_on_failure: AuditOnFailure
