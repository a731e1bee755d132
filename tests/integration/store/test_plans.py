"""Plans: what keys get of them, when a change acts, and what may not be undone."""

import asyncio

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import GatewayError, InternalError, InvalidRequest, NotFound
from app.store.api_key import ApiKey, KeyDraft
from app.store.key_records import KeyRecords
from app.store.keys import KeyStore
from app.store.plan import PlanDraft
from app.store.plan_records import PlanRecords
from app.store.policy import Limits, Policy
from app.store.tables import api_keys, plans
from tests.integration.store.clocked import Clock
from tests.integration.store.statements import Statements, until_one_waits


async def plan(keys: KeyStore, name: str, **policy: object) -> str:
    await keys.plans.create(PlanDraft(name=name, policy=Policy.model_validate(policy)))
    return name


async def opened(keys: KeyStore, secret: str) -> ApiKey:
    found = await keys.authenticate(secret)
    assert found is not None
    return found


async def test_a_key_gets_what_its_own_policy_leaves_open_from_its_plan(keys: KeyStore) -> None:
    name = await plan(keys, "gold", requests_per_minute=60, tokens_per_day=1000, models=["a"])
    own = Policy(requests_per_minute=5, concurrency=1)
    issued = await keys.create(KeyDraft(name="x", plan=name, policy=own))
    effective = Policy(requests_per_minute=5, concurrency=1, tokens_per_day=1000, models=("a",))
    assert (issued.key.plan, issued.key.policy) == (name, own)
    assert issued.key.effective_policy == effective
    found = await opened(keys, issued.secret)
    assert (found.plan, found.policy) == (name, effective)


async def test_a_key_without_a_plan_has_its_own_policy_alone(keys: KeyStore) -> None:
    issued = await keys.create(KeyDraft(name="x", policy=Policy(concurrency=1)))
    assert issued.key.plan is None
    assert issued.key.effective_policy == issued.key.policy == Policy(concurrency=1)
    found = await opened(keys, issued.secret)
    assert (found.plan, found.tenant_limits) == (None, Limits())


async def test_a_key_with_its_plan_and_its_tenant_is_one_query(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    name = await plan(keys, "one-query", concurrency=2)
    await keys.update_tenant("one-query", {"limits": Limits(concurrency=3)})
    issued = await keys.create(KeyDraft(name="x", tenant="one-query", plan=name))
    statements = Statements(engine)
    found = await opened(keys, issued.secret)
    assert (found.policy.concurrency, found.tenant_limits.concurrency) == (2, 3)
    assert len(statements) == 1


async def test_a_change_of_a_plan_acts_on_another_replica_within_five_seconds(
    keys: KeyStore, replica: KeyStore, clock: Clock
) -> None:
    name = await plan(keys, "within", concurrency=2)
    issued = [await keys.create(KeyDraft(name="x", plan=name)) for _ in range(3)]
    for each in issued:
        await opened(replica, each.secret)
    await keys.update_plan(name, {"policy": Policy(concurrency=9)})
    clock.seconds += 4.9
    for each in issued:
        assert (await opened(replica, each.secret)).policy.concurrency == 2
    clock.seconds += 0.1
    for each in issued:
        assert (await opened(replica, each.secret)).policy.concurrency == 9


async def test_a_change_of_a_plan_acts_at_once_where_it_is_made_and_asks_for_no_other_key(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    name = await plan(keys, "at-once", concurrency=2)
    issued = await keys.create(KeyDraft(name="x", plan=name))
    other = await keys.create(KeyDraft(name="y"))
    for secret in (issued.secret, other.secret):
        await opened(keys, secret)
    await keys.update_plan(name, {"policy": Policy(concurrency=9)})
    statements = Statements(engine)
    assert (await opened(keys, issued.secret)).policy.concurrency == 9
    assert len(statements) == 1
    await opened(keys, other.secret)
    assert len(statements) == 1


async def test_an_answer_that_was_on_its_way_during_a_change_is_not_kept(
    keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await plan(keys, "on-its-way", concurrency=2)
    issued = await keys.create(KeyDraft(name="x", plan=name))
    read, go_on = asyncio.Event(), asyncio.Event()
    find = keys.records.find

    async def slowly(digest: bytes) -> ApiKey | None:
        found = await find(digest)
        read.set()
        await go_on.wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(keys.records, "find", slowly)
        early = asyncio.ensure_future(keys.authenticate(issued.secret))
        await read.wait()
    await keys.update_plan(name, {"policy": Policy(concurrency=9)})
    late = await opened(keys, issued.secret)  # does not join the question of before
    go_on.set()
    await early
    assert late.policy.concurrency == 9
    assert (await opened(keys, issued.secret)).policy.concurrency == 9


async def test_a_change_touches_only_what_it_names(keys: KeyStore) -> None:
    name = await plan(keys, "named", concurrency=2, tokens_per_day=7, models=["a"])
    change = Policy.model_validate({"concurrency": None, "tokens_per_month": 70})
    changed = await keys.update_plan(name, {"policy": change})
    assert changed.policy == Policy(tokens_per_day=7, tokens_per_month=70, models=("a",))
    assert (await keys.update_plan(name, {})).policy == changed.policy


async def test_what_is_taken_away_is_not_stored(keys: KeyStore, engine: AsyncEngine) -> None:
    name = await plan(keys, "stored", concurrency=2, tokens_per_day=7)
    await keys.update_plan(name, {"policy": Policy.model_validate({"concurrency": None})})
    async with engine.connect() as connection:
        stored = await connection.scalar(select(plans.c.policy).where(plans.c.name == name))
    assert stored == {"tokens_per_day": 7}


async def test_changes_at_once_do_not_undo_each_other(keys: KeyStore, replica: KeyStore) -> None:
    name = await plan(keys, "at-the-same-time")
    issued = await keys.create(KeyDraft(name="x"))
    fields = [
        *("requests_per_minute", "tokens_per_minute", "concurrency", "tokens_per_day"),
        *("tokens_per_month", "max_output_tokens", "max_messages", "max_cold_prefill_tokens"),
    ]
    wanted = Policy.model_validate(dict.fromkeys(fields, 5))
    changes = [Policy.model_validate({field: 5}) for field in fields]
    stores = [keys, replica] * 4
    await asyncio.gather(
        *(s.update_plan(name, {"policy": c}) for s, c in zip(stores, changes, strict=True)),
        *(s.update(issued.key.id, {"policy": c}) for s, c in zip(stores, changes, strict=True)),
    )
    assert (await keys.plans.get(name)).policy == wanted
    assert (await keys.records.get(issued.key.id)).policy == wanted


async def test_a_plan_is_given_to_a_key_and_taken_away(keys: KeyStore) -> None:
    name = await plan(keys, "given", concurrency=2)
    issued = await keys.create(KeyDraft(name="x"))
    given = await keys.update(issued.key.id, {"plan": name})
    assert (given.plan, given.effective_policy) == (name, Policy(concurrency=2))
    assert (await opened(keys, issued.secret)).policy.concurrency == 2
    taken = await keys.update(issued.key.id, {"plan": None})
    assert (taken.plan, taken.effective_policy) == (None, Policy())
    assert (await opened(keys, issued.secret)).policy.concurrency is None


async def test_an_unknown_plan_is_refused_by_name(keys: KeyStore) -> None:
    issued = await keys.create(KeyDraft(name="x"))
    for attempt in (
        keys.create(KeyDraft(name="y", plan="none")),
        keys.update(issued.key.id, {"plan": "none"}),
    ):
        with pytest.raises(InvalidRequest, match="no plan with the name 'none'") as refusal:
            await attempt
        assert (refusal.value.param, refusal.value.code) == ("plan", "plan_not_found")


async def test_a_name_is_given_once(keys: KeyStore) -> None:
    name = await plan(keys, "once", concurrency=2)
    with pytest.raises(InvalidRequest) as refusal:
        await plan(keys, name, concurrency=9)
    assert (refusal.value.param, refusal.value.code) == ("name", "plan_exists")
    assert (await keys.plans.get(name)).policy == Policy(concurrency=2)


async def test_an_unknown_plan_is_not_found(keys: KeyStore) -> None:
    for attempt in (
        keys.plans.get("none"),
        keys.update_plan("none", {"policy": Policy(concurrency=1)}),
        keys.plans.delete("none"),
    ):
        with pytest.raises(NotFound) as refusal:
            await attempt
        assert refusal.value.code == "plan_not_found"


async def test_pages_run_through_the_plans_newest_first(keys: KeyStore) -> None:
    names = [await plan(keys, f"page-{number}") for number in range(4)]
    first = await keys.plans.page(limit=2)
    assert [each.name for each in first.records] == [names[3], names[2]]
    assert first.has_more
    rest = await keys.plans.page(after=names[2], limit=2)
    assert [each.name for each in rest.records] == [names[1], names[0]]
    with pytest.raises(InvalidRequest) as refusal:
        await keys.plans.page(after="none")
    assert refusal.value.param == "after"


# -- the end of a plan


async def test_a_plan_that_keys_refer_to_is_not_deleted(keys: KeyStore) -> None:
    name = await plan(keys, "in-use", concurrency=2)
    issued = [await keys.create(KeyDraft(name="x", plan=name)) for _ in range(2)]
    assert (await keys.plans.get(name)).keys == 2
    with pytest.raises(InvalidRequest, match="2 keys refer to it") as refusal:
        await keys.plans.delete(name)
    assert refusal.value.code == "plan_in_use"
    await keys.update(issued[0].key.id, {"plan": None})
    with pytest.raises(InvalidRequest, match="1 key refers to it"):
        await keys.plans.delete(name)
    await keys.update(issued[1].key.id, {"plan": None})
    await keys.plans.delete(name)
    with pytest.raises(NotFound):
        await keys.plans.get(name)


async def test_revoked_keys_do_not_hold_a_plan_for_ever(keys: KeyStore) -> None:
    name = await plan(keys, "held", concurrency=2)
    issued = await keys.create(KeyDraft(name="x", plan=name))
    await keys.revoke(issued.key.id)
    assert (await keys.plans.get(name)).keys == 0
    await keys.plans.delete(name)
    assert (await keys.records.get(issued.key.id)).plan is None
    assert await keys.authenticate(issued.secret) is None


async def test_a_plan_that_a_key_is_just_being_given_is_not_deleted(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    name = await plan(keys, "just-given")
    async with engine.begin() as connection:
        row = {"id": "key_just_given", "tenant": "acme", "name": "x", "plan": name}
        await connection.execute(insert(api_keys).values(**row))
        deletion = asyncio.ensure_future(_outcome(PlanRecords(engine).delete(name)))
        await until_one_waits(connection)
    assert await deletion == "plan_in_use"


async def test_a_plan_that_is_just_being_deleted_is_given_to_no_key(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    name = await plan(keys, "just-deleted")
    issued = await keys.create(KeyDraft(name="x"))
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM plans WHERE name = :name"), {"name": name})
        given = asyncio.ensure_future(
            _outcome(KeyRecords(engine).update(issued.key.id, {"plan": name}))
        )
        await until_one_waits(connection)
    assert await given == "plan_not_found"


async def _outcome(attempt: object) -> str | None:
    try:
        await attempt  # type: ignore[misc]  # one of our coroutines
    except GatewayError as refusal:
        return refusal.code
    return "done"


# -- what a newer version wrote


@pytest.mark.parametrize("stored", [{"only_on_sundays": True}, {"reasoning": "whispered"}])
async def test_a_plan_of_a_newer_version_closes_its_keys_and_is_not_overwritten(
    keys: KeyStore, engine: AsyncEngine, stored: dict[str, object]
) -> None:
    name = await plan(keys, f"newer-{len(str(stored))}")
    issued = await keys.create(KeyDraft(name="x", plan=name))
    async with engine.begin() as connection:
        await connection.execute(update(plans).where(plans.c.name == name).values(policy=stored))
    for attempt in (
        keys.authenticate(issued.secret),
        keys.records.get(issued.key.id),
        keys.plans.get(name),
        keys.update_plan(name, {"policy": Policy(concurrency=1)}),
    ):
        with pytest.raises(InternalError, match=f"policy of the plan {name}"):
            await attempt
    async with engine.begin() as connection:
        kept = await connection.scalar(select(plans.c.policy).where(plans.c.name == name))
        assert kept == stored
        await connection.execute(update(plans).where(plans.c.name == name).values(policy={}))
