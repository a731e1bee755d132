"""Keys while the database is away, slow, or crowded."""

import asyncio

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.store.secrets import mint_secret
from app.store.transaction import DatabaseUnavailable
from tests.integration.store.clocked import PEPPER, Clock, store_on


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
