"""Each migration keeps to what it declares, so that the version before works on."""

from collections.abc import AsyncIterator

import pytest
from alembic.script import Script, ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.migrate import alembic_config
from app.store.schema import SCHEMA_REVISION
from tests.integration.store.statements import Statements
from tests.integration.store.test_migrate_in_use import all_rows, downgrade_to, upgrade_to
from tests.support.migration_rules import PHASES, complaints

FIRST = "0007"  # what is older declares nothing: no version restarts on a schema newer than its own
BEFORE = "0006"

REVISIONS = sorted(
    ScriptDirectory.from_config(alembic_config()).walk_revisions(),
    key=lambda script: script.revision,
)
DECLARING = [script for script in REVISIONS if script.revision >= FIRST]
SERVES = "SELECT serves_code_from FROM schema_compatibility"


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(empty_database_url)
    yield engine
    await engine.dispose()


def serves(script: Script) -> str:
    return str(script.module.serves_code_from)


def test_revisions_are_four_digits_in_a_line() -> None:
    numbers = [f"{number:04}" for number in range(1, len(REVISIONS) + 1)]
    assert [script.revision for script in REVISIONS] == numbers
    assert [script.down_revision for script in REVISIONS] == [None, *numbers[:-1]]
    assert numbers[-1] == SCHEMA_REVISION


@pytest.mark.parametrize("script", DECLARING, ids=lambda script: script.revision)
def test_the_version_before_is_always_served(script: Script) -> None:
    before = next(each for each in REVISIONS if each.revision == script.down_revision)
    served_before = BEFORE if script.revision == FIRST else serves(before)
    assert script.module.phase in PHASES
    assert served_before <= serves(script) <= before.revision
    if script.module.phase == "expand":
        assert serves(script) == served_before, "an expansion leaves nobody behind"


@pytest.mark.parametrize("script", DECLARING, ids=lambda script: script.revision)
async def test_a_migration_does_what_its_phase_allows(script: Script, empty: AsyncEngine) -> None:
    assert isinstance(script.down_revision, str)
    await upgrade_to(empty, script.down_revision)
    statements = Statements(empty)
    await upgrade_to(empty, script.revision)
    # Without their parameters.
    said = [statement.rpartition(" (")[0] or statement for statement in statements]
    assert complaints(script.module.phase, said) == []


async def test_the_schema_says_the_oldest_code_that_it_serves_up_and_down(
    empty: AsyncEngine,
) -> None:
    for script in DECLARING:
        await upgrade_to(empty, script.revision)
        assert await all_rows(empty, SERVES) == [(serves(script),)]
    for script in reversed(DECLARING[:-1]):
        await downgrade_to(empty, script.revision)
        assert await all_rows(empty, SERVES) == [(serves(script),)]
    await downgrade_to(empty, BEFORE)
    async with empty.connect() as connection:
        gone = await connection.scalar(text("SELECT to_regclass('schema_compatibility') IS NULL"))
    assert gone
