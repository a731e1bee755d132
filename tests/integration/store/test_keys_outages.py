"""Keys while the database is away, slow, or crowded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.store.api_key import ApiKey, KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.store.secrets import mint_secret
from app.store.transaction import DatabaseUnavailable
from tests.integration.store.clocked import PEPPER, Clock, store_on


@asynccontextmanager
async def without_keys(engine: AsyncEngine) -> AsyncIterator[None]:
    """The database answers nothing about keys."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO hidden")
    try:
        yield
    finally:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE hidden RENAME TO api_keys")


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
    async with without_keys(engine):
        assert await keys.authenticate(issued.secret) is not None
        clock.seconds += 5.0
        with pytest.raises(DatabaseUnavailable):
            await keys.authenticate(issued.secret)
    assert await keys.authenticate(issued.secret) is not None


async def test_known_keys_outlive_the_database_as_long_as_they_may(
    engine: AsyncEngine, clock: Clock
) -> None:
    keys = store_on(engine, clock, outage_seconds=3600.0)
    known = (await keys.create(KeyDraft(name="known"))).secret
    changed = await keys.create(KeyDraft(name="changed"))
    unknown = (await keys.create(KeyDraft(name="unknown"))).secret
    assert await keys.authenticate(known) is not None
    assert await keys.authenticate(changed.secret) is not None
    await keys.update(changed.key.id, {"name": "renamed"})
    with capture_logs() as logs:
        async with without_keys(engine):
            clock.seconds += 3599.0
            assert keys.serves_without_database
            for _ in range(2):
                assert (key := await keys.authenticate(known)) is not None
                assert key.name == "known"
            for lacking in (unknown, changed.secret, mint_secret(PEPPER).secret):
                with pytest.raises(DatabaseUnavailable):
                    await keys.authenticate(lacking)
            clock.seconds += 1.0
            assert not keys.serves_without_database
            with pytest.raises(DatabaseUnavailable):
                await keys.authenticate(known)
        clock.seconds += 5.0
        assert await keys.authenticate(known) is not None
    assert keys.serves_without_database
    assert [line["event"] for line in logs] == ["key_store_away", "key_store_back"]


async def test_a_database_that_is_away_is_not_asked_for_each_request(
    engine: AsyncEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = store_on(engine, clock, outage_seconds=3600.0)
    known = (await keys.create(KeyDraft(name="known"))).secret
    assert await keys.authenticate(known) is not None
    asked = 0
    find = keys.records.find

    async def counted(digest: bytes) -> ApiKey | None:
        nonlocal asked
        asked += 1
        return await find(digest)

    monkeypatch.setattr(keys.records, "find", counted)
    async with without_keys(engine):
        for _ in range(3):
            clock.seconds += 6.0
            for _ in range(5):
                assert await keys.authenticate(known) is not None
    assert asked == 3


async def test_a_revocation_is_heard_of_as_soon_as_the_database_is_back(
    engine: AsyncEngine, clock: Clock
) -> None:
    keys, elsewhere = store_on(engine, clock, outage_seconds=3600.0), store_on(engine, clock)
    issued = await keys.create(KeyDraft(name="known"))
    assert await keys.authenticate(issued.secret) is not None
    async with without_keys(engine):
        clock.seconds += 60.0
        assert await keys.authenticate(issued.secret) is not None
    await elsewhere.revoke(issued.key.id)
    clock.seconds += 5.0
    assert await keys.authenticate(issued.secret) is None


async def test_a_flood_of_strangers_leaves_connections_to_keys_in_use(
    keys: KeyStore, engine: AsyncEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.keys.LOOKUP_SECONDS", 60.0)  # longer than the lock is held
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
    async with asyncio.timeout(60):
        while True:
            waiting = (await connection.exec_driver_sql(query)).scalar_one()  # type: ignore[attr-defined]  # the driver's
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
