"""A database that is behind, level with, or ahead of the code."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import Conflict
from app.store.database import create_engine
from app.store.migrate import Upgrade, upgrade
from app.store.schema import SCHEMA_REVISION, SchemaState, schema_state
from tests.integration.store.test_migrate_in_use import put, upgrade_to

NEWER = f"{int(SCHEMA_REVISION) + 1:04}"


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(empty_database_url)
    yield engine
    await engine.dispose()


async def migrated_by_a_newer_version(engine: AsyncEngine, serves_code_from: str) -> None:
    await upgrade(engine)
    await put(engine, "UPDATE alembic_version SET version_num = :newer", newer=NEWER)
    serves = "UPDATE schema_compatibility SET serves_code_from = :oldest"
    await put(engine, serves, oldest=serves_code_from)


async def test_an_empty_database_is_to_be_migrated(empty: AsyncEngine) -> None:
    state = await schema_state(empty)
    assert state == SchemaState(None, None)
    assert state.is_behind
    assert state.complaint == "the database is not migrated: run `gateway db upgrade`"


async def test_one_that_is_behind_says_how_far(empty: AsyncEngine) -> None:
    await upgrade_to(empty, "0005")
    state = await schema_state(empty)
    assert state.is_behind
    assert state.complaint == (
        f"the database is at revision 0005, and this version needs {SCHEMA_REVISION}: run "
        "`gateway db upgrade`"
    )


async def test_one_that_is_ahead_is_used_as_long_as_it_serves_this_version(
    empty: AsyncEngine,
) -> None:
    await migrated_by_a_newer_version(empty, SCHEMA_REVISION)
    state = await schema_state(empty)
    assert state == SchemaState(NEWER, SCHEMA_REVISION)
    assert not state.is_behind
    assert state.complaint is None
    # As the job of a deployment that is rolled back.
    assert await upgrade(empty) == Upgrade(NEWER, NEWER)


async def test_one_that_no_longer_serves_this_version_is_refused(empty: AsyncEngine) -> None:
    await migrated_by_a_newer_version(empty, NEWER)
    complaint = (await schema_state(empty)).complaint
    assert complaint == (
        f"the database is at revision {NEWER}, which serves versions that know {NEWER} or newer, "
        f"and this one knows {SCHEMA_REVISION}: run a newer version"
    )
    with pytest.raises(Conflict) as refusal:
        await upgrade(empty)
    assert refusal.value.message == complaint
