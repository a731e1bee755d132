import asyncio
from collections.abc import AsyncIterator
from importlib import util
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.migrate import Upgrade, alembic_config, migrations_directory, upgrade
from app.store.schema import SCHEMA_REVISION, schema_state
from app.store.transaction import DatabaseUnavailable
from tests.integration.store.differences import differences


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(empty_database_url)
    yield engine
    await engine.dispose()


def test_this_version_needs_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [SCHEMA_REVISION]


async def test_an_upgrade_makes_the_tables_that_the_code_knows(engine: AsyncEngine) -> None:
    assert await differences(engine) == []


async def test_an_empty_database_is_upgraded_once(empty: AsyncEngine) -> None:
    assert (await schema_state(empty)).revision is None
    assert (await schema_state(empty)).complaint is not None
    assert await upgrade(empty) == Upgrade(None, SCHEMA_REVISION)
    assert (await schema_state(empty)).complaint is None
    again = await upgrade(empty)
    assert again == Upgrade(SCHEMA_REVISION, SCHEMA_REVISION)
    assert not again.changed


async def test_findings_are_added_to_a_table_in_use_without_writing_its_rows(
    empty: AsyncEngine,
) -> None:
    async with empty.begin() as connection:
        await connection.run_sync(_upgrade_to, "0001")
        await connection.execute(text(INSERT_OF_THE_FIRST_REVISION), {"id": "req_before"})
        file = await connection.scalar(text(FILE_OF_THE_TABLE))
    assert (await schema_state(empty)).complaint is not None
    async with empty.connect() as connection:  # one of the revisions runs outside a transaction
        await connection.run_sync(_upgrade_to, "0005")
    async with empty.begin() as connection:
        # A replica that was not yet replaced writes on.
        await connection.execute(text(INSERT_OF_THE_FIRST_REVISION), {"id": "req_after"})
        found = await connection.execute(text("SELECT request_id, findings FROM audit_records"))
        assert {row.request_id: row.findings for row in found} == {
            "req_before": {},
            "req_after": {},
        }
        assert await connection.scalar(text(FILE_OF_THE_TABLE)) == file
    assert await upgrade(empty) == Upgrade("0005", SCHEMA_REVISION)


def _upgrade_to(connection: Connection, revision: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


INSERT_OF_THE_FIRST_REVISION = """
INSERT INTO audit_records (request_id, received_at, route) VALUES (:id, now(), '/v1/models')
"""
FILE_OF_THE_TABLE = "SELECT pg_relation_filenode('audit_records')"


async def test_upgrades_at_once_wait_for_each_other(empty: AsyncEngine) -> None:
    done = await asyncio.gather(*(upgrade(empty) for _ in range(4)))
    assert sorted(each.changed for each in done) == [False, False, False, True]


async def test_an_unreachable_database_is_named_as_such(unused_port: int) -> None:
    engine = create_engine(f"postgresql://user:hunter2@127.0.0.1:{unused_port}/gateway")
    for attempt in (upgrade(engine), schema_state(engine)):
        with pytest.raises(DatabaseUnavailable) as failure:
            await attempt
        assert "hunter2" not in failure.value.reason
        assert "\n" not in failure.value.reason
    await engine.dispose()


def test_migrations_are_found_beside_the_package_in_a_wheel(tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    source = Path(migrations_directory.__code__.co_filename)
    installed = tmp_path / "migrate.py"
    installed.write_text(source.read_text("utf-8"), "utf-8")
    spec = util.spec_from_file_location("installed_migrate", installed)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.migrations_directory() == tmp_path / "migrations"
