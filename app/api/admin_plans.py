"""`/admin/v1/plans`: named policies that keys refer to."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.api.admin_parameters import Keys, PageLimit
from app.store.page_view import PageView, page_view
from app.store.paging import PAGE_ROWS
from app.store.plan import PlanChanges, PlanDraft, PlanName
from app.store.plan_view import DeletedPlanView, PlanView, plan_view

Name = Annotated[PlanName, Path()]


def add_plan_routes(router: APIRouter) -> None:
    router.post("/plans", status_code=201)(create_plan)
    router.get("/plans")(list_plans)
    router.get("/plans/{name}")(get_plan)
    router.patch("/plans/{name}")(update_plan)
    router.delete("/plans/{name}")(delete_plan)


async def create_plan(draft: PlanDraft, keys: Keys) -> PlanView:
    """Make a plan. Keys refer to it by its name, which stays."""
    return plan_view(await keys.plans.create(draft))


async def list_plans(
    keys: Keys, after: PlanName | None = None, limit: PageLimit = PAGE_ROWS
) -> PageView[PlanView]:
    """Plans, newest first; `after` is the last name of the page before."""
    page = await keys.plans.page(after=after, limit=limit)
    return page_view(page, plan_view, lambda plan: plan.name)


async def get_plan(name: Name, keys: Keys) -> PlanView:
    """The plan, and how many keys refer to it."""
    return plan_view(await keys.plans.get(name))


async def update_plan(name: Name, changes: PlanChanges, keys: Keys) -> PlanView:
    """Change the fields of the policy that are named; null takes one away. It acts on all keys that
    refer to the plan, everywhere within 5 seconds."""
    return plan_view(await keys.update_plan(name, changes))


async def delete_plan(name: Name, keys: Keys) -> DeletedPlanView:
    """Refused while a key refers to it that is not revoked."""
    await keys.plans.delete(name)
    return DeletedPlanView(name=name)
