"""API keys in Postgres. No secret comes here, only digests and hints."""

import hmac
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import InvalidRequest, NotFound
from app.store.api_key import ApiKey, KeyChanges, KeyDraft, KeyRecord, SecretRecord
from app.store.paging import PAGE_ROWS, Page, newest_first, older_than
from app.store.plan_records import hold_plan
from app.store.policy import Policy
from app.store.secrets import MintedSecret, mint_key_id
from app.store.stored_policy import (
    audit_on_failure_from_store,
    effective_policy,
    limits_from_store,
    merged_into,
    policy_from_store,
    values_to_store,
)
from app.store.tables import api_key_secrets, api_keys, plans, tenants
from app.store.transaction import KEY_STORE_UNAVAILABLE, in_transaction

MAX_GRACE_SECONDS = 30 * 24 * 3600.0  # a secret on its way out goes within a month

Result = TypeVar("Result")


class KeyRecords:
    """Every call is one transaction, and raises DatabaseUnavailable (503 `key_store_unavailable`)
    when the database fails, NotFound for an unknown id."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, digest: bytes) -> ApiKey | None:
        """The key that the digest (32 bytes) opens, or None where it is unknown, disabled or
        revoked. Whether it has expired is for its user to ask, each time."""
        row = await self._run(lambda connection: _first(connection, _by_digest(digest)))
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        if not row.enabled or row.revoked_at is not None:
            return None
        tenant = f"tenant {row.tenant}"
        ends = [end for end in (row.expires_at, row.secret_expires_at) if end is not None]
        return ApiKey(
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            policy=effective_policy(*_policies(row)),
            expires_at=min(ends, default=None),
            plan=row.plan,
            tenant_limits=limits_from_store(row.tenant_limits or {}, tenant),
            tenant_audit_on_failure=audit_on_failure_from_store(row.audit_on_failure, tenant),
        )

    async def create(self, draft: KeyDraft, minted: MintedSecret) -> KeyRecord:
        """Raises InvalidRequest for an expiry that is over already, and for an unknown plan."""
        if draft.expires_at is not None and draft.expires_at <= datetime.now(UTC):
            raise InvalidRequest("The expiry lies in the past.", param="expires_at")
        key_id = mint_key_id()

        async def step(connection: AsyncConnection) -> KeyRecord:
            values = draft.model_dump(exclude={"policy"})
            values["policy"] = values_to_store(draft.policy)
            if draft.plan is not None:
                await hold_plan(connection, draft.plan)
            await connection.execute(insert(api_keys).values(id=key_id, **values))
            await _add_secret(connection, key_id, minted)
            return await _get(connection, key_id)

        return await self._run(step)

    async def get(self, key_id: str) -> KeyRecord:
        return await self._run(lambda connection: _get(connection, key_id))

    async def page(
        self, *, tenant: str | None = None, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[KeyRecord]:
        """Keys older than the key `after`, newest first. Raises InvalidRequest if that is none."""

        async def step(connection: AsyncConnection) -> Page[KeyRecord]:
            wanted = newest_first(_keys(), api_keys.c.id)
            if tenant is not None:
                wanted = wanted.where(api_keys.c.tenant == tenant)
            if after is not None:
                what = "key with this id"
                wanted = wanted.where(await older_than(connection, api_keys.c.id, after, what=what))
            rows = (await connection.execute(wanted.limit(limit + 1))).all()
            return Page(await _with_secrets(connection, rows[:limit]), len(rows) > limit)

        return await self._run(step)

    async def update(self, key_id: str, changes: KeyChanges) -> KeyRecord:
        """Raises InvalidRequest for a revoked key (`key_revoked`), and for an unknown plan."""
        values: dict[str, Any] = dict(changes)
        if "policy" in changes:
            values["policy"] = merged_into(api_keys.c.policy, changes["policy"])

        async def step(connection: AsyncConnection) -> KeyRecord:
            await _lock_live(connection, key_id)
            plan = changes.get("plan")
            if plan is not None:
                await hold_plan(connection, plan)
            if values:
                await connection.execute(
                    update(api_keys).where(api_keys.c.id == key_id).values(**values)
                )
            return await _get(connection, key_id)

        return await self._run(step)

    async def revoke(self, key_id: str) -> KeyRecord:
        """For ever, with all of its secrets. A second time changes nothing."""

        async def step(connection: AsyncConnection) -> KeyRecord:
            await connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=func.now())
            )
            return await _get(connection, key_id)

        return await self._run(step)

    async def rotate(self, key_id: str, minted: MintedSecret, *, grace_seconds: float) -> KeyRecord:
        """Add a secret; those before it work `grace_seconds` longer, or less if they were to end
        sooner: with 0 the new one is the only one. Raises InvalidRequest for a revoked key."""

        async def step(connection: AsyncConnection) -> KeyRecord:
            await _lock_live(connection, key_id)
            old, end = api_key_secrets.c, func.now() + timedelta(seconds=grace_seconds)
            await connection.execute(
                update(api_key_secrets)
                .where(old.key_id == key_id)
                .values(expires_at=func.least(old.expires_at, end))  # LEAST passes over nulls
            )
            # What is over goes, so that with no grace it does not depend on anyone's clock.
            await connection.execute(
                delete(api_key_secrets).where(old.key_id == key_id, old.expires_at <= func.now())
            )
            await _add_secret(connection, key_id, minted)
            return await _get(connection, key_id)

        return await self._run(step)

    async def _run(self, step: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        return await in_transaction(self._engine, step, code=KEY_STORE_UNAVAILABLE)


def _by_digest(digest: bytes) -> Select[Any]:
    return (
        select(
            api_keys,
            plans.c.policy.label("plan_policy"),
            tenants.c.limits.label("tenant_limits"),
            tenants.c.audit_on_failure,
            api_key_secrets.c.digest,
            api_key_secrets.c.expires_at.label("secret_expires_at"),
        )
        .join(api_key_secrets, api_key_secrets.c.key_id == api_keys.c.id)
        .outerjoin(plans, plans.c.name == api_keys.c.plan)
        .outerjoin(tenants, tenants.c.name == api_keys.c.tenant)
        .where(api_key_secrets.c.digest == digest)
    )


def _keys() -> Select[Any]:
    return select(api_keys, plans.c.policy.label("plan_policy")).outerjoin(
        plans, plans.c.name == api_keys.c.plan
    )


async def _first(connection: AsyncConnection, wanted: Select[Any]) -> Row[Any] | None:
    row: Row[Any] | None = (await connection.execute(wanted)).first()
    return row


async def _get(connection: AsyncConnection, key_id: str) -> KeyRecord:
    row = await _first(connection, _keys().where(api_keys.c.id == key_id))
    if row is None:
        raise _unknown(key_id)
    return (await _with_secrets(connection, [row]))[0]


async def _lock_live(connection: AsyncConnection, key_id: str) -> None:
    wanted = select(api_keys.c.revoked_at).where(api_keys.c.id == key_id).with_for_update()
    row = await _first(connection, wanted)
    if row is None:
        raise _unknown(key_id)
    if row.revoked_at is not None:
        raise InvalidRequest(f"The key {key_id} is revoked, for ever.", code="key_revoked")


async def _add_secret(connection: AsyncConnection, key_id: str, minted: MintedSecret) -> None:
    await connection.execute(
        insert(api_key_secrets).values(key_id=key_id, digest=minted.digest, hint=minted.hint)
    )


async def _with_secrets(
    connection: AsyncConnection, rows: Sequence[Row[Any]]
) -> tuple[KeyRecord, ...]:
    column = api_key_secrets.c
    found = await connection.execute(
        select(column.key_id, column.hint, column.created_at, column.expires_at)
        .where(column.key_id.in_([row.id for row in rows]))
        .where(or_(column.expires_at.is_(None), column.expires_at > func.now()))
        .order_by(column.created_at.desc())
    )
    secrets: dict[str, list[SecretRecord]] = defaultdict(list)
    for key_id, hint, created_at, expires_at in found:
        secrets[key_id].append(SecretRecord(hint, created_at, expires_at))
    return tuple(_record(row, tuple(secrets[row.id])) for row in rows)


def _record(row: Row[Any], secrets: tuple[SecretRecord, ...]) -> KeyRecord:
    own, plan = _policies(row)
    return KeyRecord(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        enabled=row.enabled,
        plan=row.plan,
        policy=own,
        effective_policy=effective_policy(own, plan),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        secrets=secrets,
    )


def _policies(row: Row[Any]) -> tuple[Policy, Policy | None]:
    """The key's own, and its plan's if it has one."""
    own = policy_from_store(row.policy, f"key {row.id}")
    if row.plan is None:
        return own, None
    return own, policy_from_store(row.plan_policy, f"plan {row.plan}")


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"There is no API key with the id {key_id!r}.", code="key_not_found")
