"""Limits of tenants: what their keys carry, when a change acts, and what may not be undone."""

import asyncio

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import InternalError, InvalidRequest, NotFound
from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Limits
from app.store.tables import tenants
from tests.integration.store.clocked import Clock


async def limits_of(keys: KeyStore, secret: str) -> Limits:
    found = await keys.authenticate(secret)
    assert found is not None
    return found.tenant_limits


async def test_keys_carry_the_limits_of_their_tenant_and_of_no_other(keys: KeyStore) -> None:
    limits = Limits(requests_per_minute=100, tokens_per_month=10**9)
    made = await keys.update_tenant("carry", {"limits": limits})
    assert (made.name, made.limits, made.keys) == ("carry", limits, 0)
    ours = await keys.create(KeyDraft(name="x", tenant="carry"))
    other = await keys.create(KeyDraft(name="x", tenant="carry-2"))
    assert await limits_of(keys, ours.secret) == limits
    assert await limits_of(keys, other.secret) == Limits()
    assert (await keys.tenants.get("carry")).keys == 1


async def test_a_change_acts_at_once_here_and_within_five_seconds_elsewhere(
    keys: KeyStore, replica: KeyStore, clock: Clock
) -> None:
    issued = await keys.create(KeyDraft(name="x", tenant="acts"))
    for store in (keys, replica):
        assert await limits_of(store, issued.secret) == Limits()
    await keys.update_tenant("acts", {"limits": Limits(concurrency=2)})
    assert await limits_of(keys, issued.secret) == Limits(concurrency=2)
    clock.seconds += 4.9
    assert await limits_of(replica, issued.secret) == Limits()
    clock.seconds += 0.1
    assert await limits_of(replica, issued.secret) == Limits(concurrency=2)
    await keys.delete_tenant("acts")
    assert await limits_of(keys, issued.secret) == Limits()


async def test_a_change_touches_only_what_it_names(keys: KeyStore) -> None:
    await keys.update_tenant("named", {"limits": Limits(concurrency=2, tokens_per_day=7)})
    change = Limits.model_validate({"concurrency": None, "tokens_per_minute": 70})
    changed = await keys.update_tenant("named", {"limits": change})
    assert changed.limits == Limits(tokens_per_day=7, tokens_per_minute=70)
    assert (await keys.update_tenant("named", {})).limits == changed.limits


async def test_changes_at_once_do_not_undo_each_other(keys: KeyStore, replica: KeyStore) -> None:
    fields = [*Limits.model_fields]
    await asyncio.gather(
        *(
            store.update_tenant("at-once", {"limits": Limits.model_validate({field: 5})})
            for field in fields
            for store in (keys, replica)
        )
    )
    assert (await keys.tenants.get("at-once")).limits.model_dump() == dict.fromkeys(fields, 5)


async def test_a_tenant_without_settings_is_not_found(keys: KeyStore) -> None:
    await keys.create(KeyDraft(name="x", tenant="plain"))
    for attempt in (keys.tenants.get("plain"), keys.delete_tenant("plain")):
        with pytest.raises(NotFound) as refusal:
            await attempt
        assert refusal.value.code == "tenant_not_found"


async def test_pages_run_through_the_tenants_newest_first(keys: KeyStore) -> None:
    names = [f"page/{number}" for number in range(3)]
    for name in names:
        await keys.update_tenant(name, {"limits": Limits(concurrency=1)})
    first = await keys.tenants.page(limit=2)
    assert [each.name for each in first.records] == [names[2], names[1]]
    assert first.has_more
    rest = await keys.tenants.page(after=names[1], limit=1)
    assert [each.name for each in rest.records] == [names[0]]
    with pytest.raises(InvalidRequest) as refusal:
        await keys.tenants.page(after="none")
    assert refusal.value.param == "after"


@pytest.mark.parametrize("stored", [{"tokens_per_year": 1}, {"concurrency": "few"}])
async def test_limits_of_a_newer_version_close_the_tenants_keys_and_are_not_overwritten(
    keys: KeyStore, engine: AsyncEngine, stored: dict[str, object]
) -> None:
    name = "newer"
    await keys.update_tenant(name, {"limits": Limits(concurrency=1)})
    issued = await keys.create(KeyDraft(name="x", tenant=name))
    async with engine.begin() as connection:
        await connection.execute(
            update(tenants).where(tenants.c.name == name).values(limits=stored)
        )
    for attempt in (
        keys.authenticate(issued.secret),
        keys.tenants.get(name),
        keys.update_tenant(name, {"limits": Limits(tokens_per_day=1)}),
    ):
        with pytest.raises(InternalError, match=f"limits of the tenant {name}"):
            await attempt
    async with engine.connect() as connection:
        kept = await connection.scalar(select(tenants.c.limits).where(tenants.c.name == name))
    assert kept == stored
    await keys.delete_tenant(name)


async def test_what_a_newer_version_lets_a_tenant_do_without_an_audit_log_is_not_guessed(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    await keys.update_tenant("newest", {"audit_on_failure": "open_metadata"})
    issued = await keys.create(KeyDraft(name="x", tenant="newest"))
    newer = update(tenants).where(tenants.c.name == "newest").values(audit_on_failure="open_all")
    async with engine.begin() as connection:
        await connection.execute(newer)
    for attempt in (keys.authenticate(issued.secret), keys.tenants.get("newest")):
        with pytest.raises(InternalError, match="tenant newest"):
            await attempt
    await keys.delete_tenant("newest")
