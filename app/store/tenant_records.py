"""The settings of tenants in Postgres. A tenant without a row has none of its own."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import Row, Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import NotFound
from app.store.paging import PAGE_ROWS, Page, newest_first, older_than
from app.store.policy import NO_LIMITS
from app.store.stored_policy import (
    audit_on_failure_from_store,
    limits_from_store,
    merged_into,
    values_to_store,
)
from app.store.tables import api_keys, tenants
from app.store.tenant import TenantChanges, TenantRecord
from app.store.transaction import KEY_STORE_UNAVAILABLE, in_transaction

Result = TypeVar("Result")


class TenantRecords:
    """Every call is one transaction, and raises DatabaseUnavailable (503 `key_store_unavailable`)
    when the database fails, NotFound for a tenant without settings of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, name: str) -> TenantRecord:
        return await self._run(lambda connection: _get(connection, name))

    async def page(self, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page[TenantRecord]:
        """Tenants older than the tenant `after`. Raises InvalidRequest if that is none."""

        async def step(connection: AsyncConnection) -> Page[TenantRecord]:
            wanted = newest_first(_tenants(), tenants.c.name)
            if after is not None:
                what = "tenant with this name"
                wanted = wanted.where(
                    await older_than(connection, tenants.c.name, after, what=what)
                )
            rows = (await connection.execute(wanted.limit(limit + 1))).all()
            return Page(tuple(_record(row) for row in rows[:limit]), len(rows) > limit)

        return await self._run(step)

    async def update(self, name: str, changes: TenantChanges) -> TenantRecord:
        """Whether or not it had settings before; its keys may come later."""
        limits = changes.get("limits", NO_LIMITS)
        values: dict[str, Any] = {}
        if "audit_on_failure" in changes:
            values["audit_on_failure"] = changes["audit_on_failure"]

        async def step(connection: AsyncConnection) -> TenantRecord:
            made = insert(tenants).values(name=name, limits=values_to_store(limits), **values)
            await connection.execute(
                made.on_conflict_do_update(
                    index_elements=[tenants.c.name],
                    set_=values
                    | {
                        "limits": merged_into(tenants.c.limits, limits),
                        "updated_at": func.now(),
                    },
                )
            )
            return await _get(connection, name)

        return await self._run(step)

    async def delete(self, name: str) -> None:
        """Its settings go; its keys stay."""

        async def step(connection: AsyncConnection) -> None:
            gone = delete(tenants).where(tenants.c.name == name).returning(tenants.c.name)
            if await connection.scalar(gone) is None:
                raise _unknown(name)

        await self._run(step)

    async def _run(self, step: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        return await in_transaction(self._engine, step, code=KEY_STORE_UNAVAILABLE)


def _tenants() -> Select[Any]:
    keys = (
        select(func.count())
        .select_from(api_keys)
        .where(api_keys.c.tenant == tenants.c.name, api_keys.c.revoked_at.is_(None))
        .scalar_subquery()
    )
    return select(tenants, keys.label("keys"))


async def _get(connection: AsyncConnection, name: str) -> TenantRecord:
    row = (await connection.execute(_tenants().where(tenants.c.name == name))).first()
    if row is None:
        raise _unknown(name)
    return _record(row)


def _record(row: Row[Any]) -> TenantRecord:
    of = f"tenant {row.name}"
    return TenantRecord(
        name=row.name,
        limits=limits_from_store(row.limits, of),
        audit_on_failure=audit_on_failure_from_store(row.audit_on_failure, of),
        keys=row.keys,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"The tenant {name!r} has no settings of its own.", code="tenant_not_found")
