"""What is shown of a plan. Times are Unix seconds."""

from typing import Literal

from pydantic import BaseModel

from app.store.plan import PlanRecord
from app.store.policy import Policy


class PlanView(BaseModel):
    """`keys` is how many refer to it; those that are revoked do not count."""

    object: Literal["plan"] = "plan"
    name: str
    policy: Policy
    keys: int
    created_at: int
    updated_at: int


class DeletedPlanView(BaseModel):
    object: Literal["plan.deleted"] = "plan.deleted"
    name: str
    deleted: bool = True


def plan_view(plan: PlanRecord) -> PlanView:
    return PlanView(
        name=plan.name,
        policy=plan.policy,
        keys=plan.keys,
        created_at=int(plan.created_at.timestamp()),
        updated_at=int(plan.updated_at.timestamp()),
    )
