"""A plan: a policy with a name, which keys refer to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from app.store.policy import Policy

PlanName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,48}$")]


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """`keys` is how many refer to it; those that are revoked do not count."""

    name: str
    policy: Policy
    keys: int
    created_at: datetime
    updated_at: datetime


class PlanDraft(BaseModel):
    """A plan to be created."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PlanName
    policy: Policy = Policy()


class PlanChanges(TypedDict, total=False):
    """What to change of a plan: only the fields of the policy that are named; null takes one
    away. The name stays."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way

    policy: Policy
