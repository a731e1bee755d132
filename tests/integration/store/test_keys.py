import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import InternalError, InvalidRequest, NotFound
from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Policy
from app.store.secrets import digest_of, mint_secret
from app.store.tables import api_key_secrets, api_keys
from tests.integration.store.clocked import PEPPER, Clock
from tests.integration.store.statements import Statements


async def test_a_created_key_opens_with_its_secret(keys: KeyStore) -> None:
    policy = Policy(requests_per_minute=60, models=("qwythos",))
    issued = await keys.create(KeyDraft(name="backend", tenant="acme", policy=policy))
    found = await keys.authenticate(issued.secret)
    assert found is not None
    assert (found.id, found.tenant, found.name) == (issued.key.id, "acme", "backend")
    assert found.policy == policy
    assert found.expires_at is None


async def test_only_a_digest_is_stored(keys: KeyStore, engine: AsyncEngine) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    async with engine.connect() as connection:
        rows = (await connection.execute(select(api_key_secrets))).mappings().all()
    row = next(row for row in rows if row["key_id"] == issued.key.id)
    assert row["digest"] == digest_of(issued.secret, PEPPER)
    assert issued.secret not in repr(rows)
    assert issued.secret not in repr(issued)


async def test_a_stranger_opens_nothing_and_is_asked_about_once(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    stranger = mint_secret(PEPPER).secret
    assert await keys.authenticate(stranger) is None
    statements = Statements(engine)
    assert await keys.authenticate(stranger) is None
    assert not statements


async def test_garbage_never_reaches_the_database(keys: KeyStore, engine: AsyncEngine) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    statements = Statements(engine)
    for garbage in ("", "sk-qw-", "sk-qw-" + "0" * 49, issued.secret + "\0", "Bearer x", "\ud800"):
        assert await keys.authenticate(garbage) is None
    assert not statements


async def test_a_digest_is_no_password(keys: KeyStore) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    assert await keys.authenticate(digest_of(issued.secret, PEPPER).hex()) is None


async def test_a_known_key_costs_no_query_until_the_cache_is_stale(
    keys: KeyStore, engine: AsyncEngine, clock: Clock
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    await keys.authenticate(issued.secret)
    statements = Statements(engine)
    clock.seconds += 4.9
    assert await keys.authenticate(issued.secret) is not None
    assert not statements
    clock.seconds += 0.1
    assert await keys.authenticate(issued.secret) is not None
    assert len(statements) == 1
    assert issued.secret not in statements[0]


async def test_many_first_requests_with_one_key_share_one_query(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    statements = Statements(engine)
    found = await asyncio.gather(*(keys.authenticate(issued.secret) for _ in range(50)))
    assert all(key is not None for key in found)
    assert len(statements) == 1


async def test_revocation_acts_on_another_replica_within_five_seconds(
    keys: KeyStore, replica: KeyStore, clock: Clock
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    assert await replica.authenticate(issued.secret) is not None
    await keys.revoke(issued.key.id)
    clock.seconds += 5.0
    assert await replica.authenticate(issued.secret) is None


async def test_revocation_acts_at_once_where_it_is_asked_for(keys: KeyStore) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    assert await keys.authenticate(issued.secret) is not None
    await keys.revoke(issued.key.id)
    assert await keys.authenticate(issued.secret) is None


async def test_a_key_expires_while_it_lies_in_the_cache(keys: KeyStore, clock: Clock) -> None:
    issued = await keys.create(
        KeyDraft(name="backend", expires_at=clock.now() + timedelta(seconds=2))
    )
    assert await keys.authenticate(issued.secret) is not None
    clock.seconds += 2.0
    assert await keys.authenticate(issued.secret) is None


async def test_a_key_cannot_be_created_expired(keys: KeyStore, clock: Clock) -> None:
    past = clock.now() - timedelta(seconds=1)
    with pytest.raises(InvalidRequest) as refusal:
        await keys.create(KeyDraft(name="backend", expires_at=past))
    assert refusal.value.param == "expires_at"


async def test_a_disabled_key_opens_again_once_enabled(keys: KeyStore, clock: Clock) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    await keys.update(issued.key.id, {"enabled": False})
    assert await keys.authenticate(issued.secret) is None
    await keys.update(issued.key.id, {"enabled": True})
    clock.seconds += 5.0
    assert await keys.authenticate(issued.secret) is not None


async def test_both_secrets_work_in_the_grace_period_and_then_the_new_one_alone(
    keys: KeyStore, clock: Clock
) -> None:
    first = await keys.create(KeyDraft(name="backend"))
    second = await keys.rotate(first.key.id, grace_seconds=60)
    assert second.key.id == first.key.id
    assert [await keys.authenticate(issued.secret) for issued in (first, second)].count(None) == 0
    clock.seconds += 61
    assert await keys.authenticate(first.secret) is None
    assert await keys.authenticate(second.secret) is not None


async def test_rotation_without_grace_ends_every_older_secret_at_once(keys: KeyStore) -> None:
    first = await keys.create(KeyDraft(name="backend"))
    second = await keys.rotate(first.key.id, grace_seconds=3600)
    third = await keys.rotate(first.key.id, grace_seconds=0)
    assert await keys.authenticate(first.secret) is None
    assert await keys.authenticate(second.secret) is None
    assert await keys.authenticate(third.secret) is not None
    assert len(third.key.secrets) == 1


async def test_a_later_rotation_never_lengthens_a_grace_period(keys: KeyStore) -> None:
    first = await keys.create(KeyDraft(name="backend"))
    once = await keys.rotate(first.key.id, grace_seconds=60)
    twice = await keys.rotate(first.key.id, grace_seconds=3600)
    assert once.key.secrets[1].expires_at == twice.key.secrets[2].expires_at


async def test_a_change_of_policy_touches_only_what_it_names(keys: KeyStore) -> None:
    issued = await keys.create(
        KeyDraft(name="backend", policy=Policy(requests_per_minute=60, concurrency=4))
    )
    changed = await keys.update(
        issued.key.id, {"policy": Policy(requests_per_minute=None, tokens_per_minute=1000)}
    )
    assert changed.policy == Policy(tokens_per_minute=1000, concurrency=4)
    assert changed.name == "backend"
    found = await keys.authenticate(issued.secret)
    assert found is not None
    assert found.policy == changed.policy


async def test_a_changed_key_is_no_stranger(keys: KeyStore) -> None:
    """It is asked about again, and works on where new keys of its network have to wait."""
    issued = await keys.create(KeyDraft(name="n"))
    await keys.authenticate(issued.secret)
    await keys.update(issued.key.id, {"policy": Policy(concurrency=2)})
    assert keys.has_opened(issued.secret)
    key = await keys.authenticate(issued.secret)
    assert key is not None
    assert key.policy.concurrency == 2
    await keys.update(issued.key.id, {"enabled": False})
    assert await keys.authenticate(issued.secret) is None
    assert not keys.has_opened(issued.secret)


async def test_an_expiry_can_be_set_and_taken_away(keys: KeyStore, clock: Clock) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    end = (clock.now() + timedelta(days=1)).replace(microsecond=0)
    assert (await keys.update(issued.key.id, {"expires_at": end})).expires_at == end
    assert (await keys.update(issued.key.id, {"expires_at": None})).expires_at is None


async def test_a_revoked_key_stays_revoked(keys: KeyStore) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    revoked = await keys.revoke(issued.key.id)
    assert await keys.revoke(issued.key.id) == revoked
    for attempt in (
        keys.update(issued.key.id, {"enabled": True}),
        keys.rotate(issued.key.id),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            await attempt
        assert refusal.value.code == "key_revoked"
    assert await keys.authenticate(issued.secret) is None


async def test_an_unknown_id_is_not_found(keys: KeyStore) -> None:
    for attempt in (
        keys.records.get("key_none"),
        keys.update("key_none", {"name": "x"}),
        keys.revoke("key_none"),
        keys.rotate("key_none"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_pages_run_through_a_tenant_newest_first(keys: KeyStore) -> None:
    issued = [await keys.create(KeyDraft(name=f"k{n}", tenant="paged")) for n in range(5)]
    await keys.create(KeyDraft(name="other", tenant="elsewhere"))
    newest_first = [each.key.id for each in reversed(issued)]
    first = await keys.records.page(tenant="paged", limit=2)
    assert [key.id for key in first.records] == newest_first[:2]
    assert first.has_more
    second = await keys.records.page(tenant="paged", limit=3, after=first.records[-1].id)
    assert [key.id for key in second.records] == newest_first[2:]
    assert not second.has_more


async def test_a_page_after_no_key_is_refused(keys: KeyStore) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await keys.records.page(after="key_none")
    assert refusal.value.param == "after"


@pytest.mark.parametrize(
    "stored",
    [
        {"only_on_sundays": True},
        {"reasoning": "whispered"},
        {"tools": [{"name": "x", "on": "sundays"}]},
        {"engine_parameters": ["top_k", "n_sigma"]},
    ],
)
async def test_a_policy_of_a_newer_version_opens_nothing(
    keys: KeyStore, engine: AsyncEngine, stored: dict[str, object]
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    await store_policy(engine, issued.key.id, stored)
    with pytest.raises(InternalError, match="policy of the key"):
        await keys.authenticate(issued.secret)


async def test_a_policy_of_an_older_version_means_what_it_meant(
    keys: KeyStore, engine: AsyncEngine
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    await store_policy(engine, issued.key.id, {"models": ["qwythos"], "concurrency": None})
    found = await keys.authenticate(issued.secret)
    assert found is not None
    assert found.policy == Policy(models=("qwythos",))


async def store_policy(engine: AsyncEngine, key_id: str, stored: dict[str, object]) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            update(api_keys).where(api_keys.c.id == key_id).values(policy=stored)
        )
