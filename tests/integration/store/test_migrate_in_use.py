"""Migrations of a database that is in use: with rows, with readers and writers, up and down."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.migrate import Patience, Upgrade, alembic_config, upgrade
from app.store.schema import SCHEMA_REVISION, schema_state
from app.store.transaction import DatabaseUnavailable
from tests.integration.store.differences import differences
from tests.integration.store.statements import until_one_waits

# As the versions write that the older revisions belong to.
KEY = "INSERT INTO api_keys (id, tenant, name, policy) VALUES (:id, 'acme', 'x', :policy ::jsonb)"
RECORD = "INSERT INTO audit_records (request_id, received_at, route) VALUES (:id, now(), '/')"
FILES = "SELECT pg_relation_filenode('audit_records'), pg_relation_filenode('api_keys')"


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(empty_database_url)
    yield engine
    await engine.dispose()


async def upgrade_to(engine: AsyncEngine, revision: str) -> None:
    def run(connection: Connection) -> None:
        command.upgrade(_config(connection), revision)

    async with engine.connect() as connection:
        await connection.run_sync(run)


async def downgrade_to(engine: AsyncEngine, revision: str) -> None:
    def run(connection: Connection) -> None:
        command.downgrade(_config(connection), revision)

    async with engine.connect() as connection:
        await connection.run_sync(run)


def _config(connection: Connection):  # type: ignore[no-untyped-def]  # Alembic's
    config = alembic_config()
    config.attributes["connection"] = connection
    return config


async def put(engine: AsyncEngine, statement: str, **values: object) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)


async def all_rows(engine: AsyncEngine, query: str) -> list[tuple[object, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_an_upgrade_writes_no_row_and_lets_older_replicas_go_on(empty: AsyncEngine) -> None:
    await upgrade_to(empty, "0002")
    await put(empty, KEY, id="key_before", policy='{"concurrency": 2}')
    await put(empty, RECORD, id="req_before")
    files = await all_rows(empty, FILES)
    await upgrade_to(empty, "0005")
    await put(empty, KEY, id="key_after", policy="{}")
    await put(empty, RECORD, id="req_after")
    assert await all_rows(empty, FILES) == files
    assert await all_rows(empty, "SELECT id, policy, plan FROM api_keys ORDER BY id") == [
        ("key_after", {}, None),
        ("key_before", {"concurrency": 2}, None),
    ]
    charged = "SELECT request_id, charged_tokens, settled_at FROM audit_records ORDER BY 1"
    assert await all_rows(empty, charged) == [("req_after", None, None), ("req_before", None, None)]


async def test_a_downgrade_leaves_keys_as_narrow_as_their_plans_made_them(
    empty: AsyncEngine,
) -> None:
    await upgrade_to(empty, "0005")
    await put(
        empty,
        "INSERT INTO plans (name, policy) "
        """VALUES ('gold', '{"concurrency": 8, "tokens_per_day": 5}')""",
    )
    await put(empty, "INSERT INTO tenants (name, limits) VALUES ('acme', '{}')")
    await put(empty, KEY, id="key_1", policy='{"concurrency": 2, "tokens_per_day": null}')
    await put(empty, KEY, id="key_2", policy='{"models": ["a"]}')
    await put(empty, "UPDATE api_keys SET plan = 'gold' WHERE id = 'key_1'")
    await put(empty, RECORD, id="req_1")
    await put(empty, "UPDATE audit_records SET charged_tokens = 1, settled_at = now()")
    await downgrade_to(empty, "0002")
    assert (await schema_state(empty)).revision == "0002"
    assert await all_rows(empty, "SELECT id, policy FROM api_keys ORDER BY id") == [
        ("key_1", {"concurrency": 2, "tokens_per_day": 5}),
        ("key_2", {"models": ["a"]}),
    ]
    assert await all_rows(empty, "SELECT request_id FROM audit_records") == [("req_1",)]
    assert await all_rows(empty, "SELECT to_regclass('plans'), to_regclass('tenants')") == [
        (None, None)
    ]
    await upgrade(empty)
    assert await differences(empty) == []


@pytest.mark.parametrize("table", ["audit_records", "api_keys"])
async def test_a_lock_that_is_not_to_be_had_is_given_up_and_nothing_has_changed(
    empty: AsyncEngine, table: str, waits: list[str]
) -> None:
    await upgrade_to(empty, "0002")
    waits.clear()
    async with empty.begin() as reader:
        await reader.execute(text(f"LOCK TABLE {table} IN ACCESS SHARE MODE"))
        with pytest.raises(DatabaseUnavailable) as failure:
            await upgrade(empty, Patience(attempts=1))
    assert "lock timeout" in failure.value.reason
    assert (await schema_state(empty)).revision == "0002"
    assert await all_rows(empty, "SELECT to_regclass('plans')") == [(None,)]
    # A look-up of a key waits two seconds for its answer, and behind this.
    assert waits == {"audit_records": ["5s"], "api_keys": ["5s", "1s"]}[table]
    await upgrade(empty)
    assert (await schema_state(empty)).revision == SCHEMA_REVISION


async def test_a_lock_is_asked_for_again_until_it_is_to_be_had(
    empty: AsyncEngine, waits: list[str]
) -> None:
    await upgrade_to(empty, "0002")
    refused = asyncio.Event()
    told: list[str] = []

    def tell(reason: str) -> None:
        told.append(reason)
        refused.set()

    patience = Patience(attempts=1_000, pause_seconds=0.01, told=tell)
    async with empty.begin() as reader:
        await reader.execute(text("LOCK TABLE api_keys IN ACCESS SHARE MODE"))
        upgrading = asyncio.ensure_future(upgrade(empty, patience))
        await refused.wait()
        # Others come by meanwhile: it does not stand before them in the queue.
        await put(empty, KEY, id="key_beside", policy="{}")
        assert not upgrading.done()
    assert await upgrading == Upgrade("0002", SCHEMA_REVISION)
    assert "lock timeout" in told[0]
    assert await differences(empty) == []


@pytest.fixture
def waits() -> Iterator[list[str]]:
    """How long migrations said that they wait for locks; they wait some milliseconds."""
    said: list[str] = []

    def shorten(
        connection: object, cursor: object, statement: str, parameters: object, *rest: object
    ) -> tuple[str, object]:
        before, timeout, seconds = statement.partition("SET LOCAL lock_timeout = ")
        if timeout:
            said.append(seconds.strip("'"))
            statement = f"{before}{timeout}'20ms'"
        return statement, parameters

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield said
    event.remove(Engine, "before_cursor_execute", shorten)


async def test_indexes_are_built_beside_running_writers(empty: AsyncEngine) -> None:
    await upgrade_to(empty, "0003")
    async with empty.begin() as writer:
        await writer.execute(text(RECORD), {"id": "req_running"})
        upgrading = asyncio.ensure_future(upgrade_to(empty, "0004"))
        await until_one_waits(writer)
        await put(empty, RECORD, id="req_beside")
        assert not upgrading.done()
    await upgrading
    assert await upgrade(empty) == Upgrade("0004", SCHEMA_REVISION)
    assert await differences(empty) == []


async def test_an_index_whose_building_was_interrupted_is_built_again(empty: AsyncEngine) -> None:
    await upgrade_to(empty, "0003")
    # What is left behind bears the name, and is not the index.
    await put(empty, "CREATE INDEX audit_records_key_id_settled_at_idx ON audit_records (route)")
    await upgrade_to(empty, "0004")
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    assert await all_rows(empty, invalid) == []
    definition = "SELECT pg_get_indexdef('audit_records_key_id_settled_at_idx'::regclass)"
    assert "(key_id, settled_at) INCLUDE (charged_tokens)" in str(await all_rows(empty, definition))
