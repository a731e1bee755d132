import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import event, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import InternalError, InvalidRequest, NotFound
from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.store.policy import Policy
from app.store.secrets import digest_of, mint_secret
from app.store.tables import api_key_secrets, api_keys
from app.store.transaction import DatabaseUnavailable

PEPPER = b"a pepper for tests"


class Clock:
    """Monotonic seconds and the time of day, moved by hand and together."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.start = datetime.now(UTC)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds - 1000.0)


def store_on(engine: AsyncEngine, clock: Clock, entries: int = 100) -> KeyStore:
    return KeyStore(
        engine,
        PEPPER,
        cache_seconds=5,
        cache_entries=entries,
        clock=clock.monotonic,
        now=clock.now,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(engine: AsyncEngine, clock: Clock) -> KeyStore:
    return store_on(engine, clock)


@pytest.fixture
async def replica(database_url: str, clock: Clock) -> AsyncIterator[KeyStore]:
    """Another process's store on the same database and the same clock."""
    engine = create_engine(database_url)
    yield store_on(engine, clock)
    await engine.dispose()


class Statements(list[str]):
    """The SQL that an engine has run."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        event.listen(engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, connection: object, cursor: object, statement: str, *rest: object) -> None:
        self.append(f"{statement} {rest[0]!r}")


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


async def test_a_key_cannot_be_created_expired(keys: KeyStore) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
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
    assert [key.id for key in first.keys] == newest_first[:2]
    assert first.has_more
    second = await keys.records.page(tenant="paged", limit=3, after=first.keys[-1].id)
    assert [key.id for key in second.keys] == newest_first[2:]
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


async def test_a_stale_connection_is_replaced_without_a_word(
    keys: KeyStore, engine: AsyncEngine, database_url: str
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    await end_connections(database_url)
    assert await keys.authenticate(issued.secret) is not None


async def test_without_a_database_nobody_gets_in(clock: Clock, unused_port: int) -> None:
    engine = create_engine(f"postgresql://user:hunter2@127.0.0.1:{unused_port}/gateway")
    keys = store_on(engine, clock)
    with pytest.raises(DatabaseUnavailable) as refusal:
        await keys.authenticate(mint_secret(PEPPER).secret)
    assert refusal.value.status == 503
    assert refusal.value.code == "key_store_unavailable"
    assert 1 <= (refusal.value.retry_after_seconds or 0) <= 5
    assert "hunter2" not in f"{refusal.value}{refusal.value.reason}"
    assert "127.0.0.1" not in refusal.value.message
    await engine.dispose()


async def test_a_cached_key_outlives_the_database_only_for_the_cache_s_seconds(
    keys: KeyStore, engine: AsyncEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    assert await keys.authenticate(issued.secret) is not None
    async with engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO hidden")
    try:
        assert await keys.authenticate(issued.secret) is not None
        clock.seconds += 5.0
        with pytest.raises(DatabaseUnavailable):
            await keys.authenticate(issued.secret)
    finally:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE hidden RENAME TO api_keys")
    assert await keys.authenticate(issued.secret) is not None


async def test_a_flood_of_strangers_leaves_connections_to_keys_in_use(
    keys: KeyStore, engine: AsyncEngine, clock: Clock
) -> None:
    issued = await keys.create(KeyDraft(name="backend"))
    assert await keys.authenticate(issued.secret) is not None
    clock.seconds += 5.0
    blocker = create_engine(engine.url.render_as_string(hide_password=False))
    async with blocker.begin() as connection, asyncio.TaskGroup() as group:
        # Every look-up hangs on the lock, those of strangers first.
        await connection.exec_driver_sql("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        strangers = [
            group.create_task(_outcome(keys, mint_secret(PEPPER).secret)) for _ in range(50)
        ]
        known = group.create_task(keys.authenticate(issued.secret))
        await _waiting_connections(connection, 3)
        await connection.rollback()
    assert known.result() is not None
    assert all(task.result() == "nothing" for task in strangers)
    await blocker.dispose()


async def _outcome(keys: KeyStore, secret: str) -> str:
    return "nothing" if await keys.authenticate(secret) is None else "key"


async def _waiting_connections(connection: object, wanted: int) -> None:
    query = (
        "SELECT count(*) FROM pg_locks JOIN pg_class ON relation = pg_class.oid "
        "WHERE relname = 'api_keys' AND NOT granted"
    )
    async with asyncio.timeout(5):
        while True:
            waiting = (await connection.exec_driver_sql(query)).scalar_one()  # type: ignore[attr-defined]
            if waiting >= wanted:
                assert waiting == wanted
                return
            await asyncio.sleep(0.01)


async def end_connections(url: str) -> None:
    """Ends every other connection to the database, as a restart of the server does."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(address)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
