"""Plans in Postgres."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import Row, ScalarSelect, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import InvalidRequest, NotFound
from app.store.paging import PAGE_ROWS, Page, newest_first, older_than
from app.store.plan import PlanChanges, PlanDraft, PlanRecord
from app.store.stored_policy import merged_into, policy_from_store, values_to_store
from app.store.tables import api_keys, plans
from app.store.transaction import KEY_STORE_UNAVAILABLE, in_transaction

Result = TypeVar("Result")


class PlanRecords:
    """Every call is one transaction, and raises DatabaseUnavailable (503 `key_store_unavailable`)
    when the database fails, NotFound for an unknown name."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, draft: PlanDraft) -> PlanRecord:
        """Raises InvalidRequest (`plan_exists`) where the name is taken."""

        async def step(connection: AsyncConnection) -> PlanRecord:
            values = {"name": draft.name, "policy": values_to_store(draft.policy)}
            made = await connection.scalar(
                insert(plans).values(**values).on_conflict_do_nothing().returning(plans.c.name)
            )
            if made is None:
                raise InvalidRequest(
                    f"There is a plan with the name {draft.name!r} already.",
                    param="name",
                    code="plan_exists",
                )
            return await _get(connection, draft.name)

        return await self._run(step)

    async def get(self, name: str) -> PlanRecord:
        return await self._run(lambda connection: _get(connection, name))

    async def page(self, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page[PlanRecord]:
        """Plans older than the plan `after`. Raises InvalidRequest if that is none."""

        async def step(connection: AsyncConnection) -> Page[PlanRecord]:
            wanted = newest_first(_plans(), plans.c.name)
            if after is not None:
                what = "plan with this name"
                wanted = wanted.where(await older_than(connection, plans.c.name, after, what=what))
            rows = (await connection.execute(wanted.limit(limit + 1))).all()
            return Page(tuple(_record(row) for row in rows[:limit]), len(rows) > limit)

        return await self._run(step)

    async def update(self, name: str, changes: PlanChanges) -> PlanRecord:
        async def step(connection: AsyncConnection) -> PlanRecord:
            if "policy" in changes:
                policy = merged_into(plans.c.policy, changes["policy"])
                await connection.execute(
                    update(plans)
                    .where(plans.c.name == name)
                    .values(policy=policy, updated_at=func.now())
                )
            return await _get(connection, name)

        return await self._run(step)

    async def delete(self, name: str) -> None:
        """Raises InvalidRequest (`plan_in_use`) while keys refer to it. Revoked ones do not hold
        it, as they could never let go: they lose it."""

        async def step(connection: AsyncConnection) -> None:
            # Whoever gives the plan to a key holds it until that is done (see `hold_plan`).
            held = select(plans.c.name).where(plans.c.name == name).with_for_update()
            if await connection.scalar(held) is None:
                raise _unknown(name)
            keys = await connection.scalar(select(func.count()).where(*_refers_to(name))) or 0
            if keys:
                refer = "1 key refers" if keys == 1 else f"{keys} keys refer"
                raise InvalidRequest(
                    f"The plan {name!r} cannot be deleted: {refer} to it.", code="plan_in_use"
                )
            await connection.execute(
                update(api_keys).where(api_keys.c.plan == name).values(plan=None)
            )
            await connection.execute(delete(plans).where(plans.c.name == name))

        await self._run(step)

    async def _run(self, step: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        return await in_transaction(self._engine, step, code=KEY_STORE_UNAVAILABLE)


async def hold_plan(connection: AsyncConnection, name: str) -> None:
    """Until the transaction ends nobody deletes it. Raises InvalidRequest, for `plan`, where there
    is none."""
    held = (
        select(plans.c.name).where(plans.c.name == name).with_for_update(read=True, key_share=True)
    )
    if await connection.scalar(held) is None:
        raise InvalidRequest(
            f"There is no plan with the name {name!r}.", param="plan", code="plan_not_found"
        )


def _refers_to(name: Any) -> tuple[Any, ...]:
    return api_keys.c.plan == name, api_keys.c.revoked_at.is_(None)


def _plans() -> Select[Any]:
    keys: ScalarSelect[Any] = (
        select(func.count())
        .select_from(api_keys)
        .where(*_refers_to(plans.c.name))
        .scalar_subquery()
    )
    return select(plans, keys.label("keys"))


async def _get(connection: AsyncConnection, name: str) -> PlanRecord:
    row = (await connection.execute(_plans().where(plans.c.name == name))).first()
    if row is None:
        raise _unknown(name)
    return _record(row)


def _record(row: Row[Any]) -> PlanRecord:
    policy = policy_from_store(row.policy, f"plan {row.name}")
    return PlanRecord(row.name, policy, row.keys, row.created_at, row.updated_at)


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no plan with the name {name!r}.", code="plan_not_found")
