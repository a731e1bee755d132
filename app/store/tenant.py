"""A tenant that has limits of its own, over all of its keys together."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, StringConstraints
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from app.store.policy import Limits

Tenant = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[0-9A-Za-z._:@/-]+$")
]


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """`keys` is how many it has; those that are revoked do not count."""

    name: str
    limits: Limits
    keys: int
    created_at: datetime
    updated_at: datetime


class TenantChanges(TypedDict, total=False):
    """What to change of a tenant: only the limits that are named; null takes one away."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way

    limits: Limits
