import pytest

from tests.support.migration_rules import complaints

LOCK = "SET LOCAL lock_timeout = '1s'"


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE api_keys ADD COLUMN note TEXT",
        "ALTER TABLE api_keys ADD COLUMN uses INTEGER DEFAULT 0 NOT NULL",
        "ALTER TABLE api_keys ADD CONSTRAINT c CHECK (uses >= 0) NOT VALID",
        "ALTER TABLE api_keys VALIDATE CONSTRAINT c",
        "ALTER TABLE api_keys ADD CONSTRAINT u UNIQUE USING INDEX u_idx",
        "CREATE INDEX CONCURRENTLY i ON api_keys (note)",
        "DROP INDEX CONCURRENTLY IF EXISTS i",
        "UPDATE alembic_version SET version_num='0008' WHERE alembic_version.version_num = '0007'",
    ],
)
def test_what_the_version_before_does_not_notice_is_an_expansion(statement: str) -> None:
    assert complaints("expand", [LOCK, statement]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE plans",
        "DROP VIEW audit_records",
        "ALTER TABLE api_keys DROP COLUMN name",
        "ALTER TABLE api_keys RENAME COLUMN name TO title",
        "ALTER TABLE api_keys RENAME TO keys",
        "ALTER TABLE api_keys ALTER COLUMN name TYPE TEXT",
        "ALTER TABLE api_keys ALTER COLUMN name SET DATA TYPE TEXT",
        "ALTER TABLE api_keys ALTER COLUMN plan SET NOT NULL",
        "ALTER TABLE api_keys ALTER COLUMN policy DROP DEFAULT",
        "ALTER TABLE api_keys ADD COLUMN uses INTEGER NOT NULL",
        "ALTER TABLE api_keys DROP CONSTRAINT api_keys_plan_fkey",
        "DROP INDEX api_keys_tenant_idx",
        "TRUNCATE audit_register",
        "REVOKE SELECT ON api_keys FROM gateway",
    ],
)
def test_what_takes_something_away_is_a_contraction(statement: str) -> None:
    assert len(complaints("expand", [LOCK, statement])) == 1
    assert complaints("contract", [LOCK, statement]) == []


@pytest.mark.parametrize("phase", ["expand", "contract"])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON api_keys (note)",
        "CREATE UNIQUE INDEX i ON api_keys (note)",
        "ALTER TABLE api_keys ADD CONSTRAINT c CHECK (uses >= 0)",
        "ALTER TABLE api_keys ADD FOREIGN KEY (plan) REFERENCES plans (name)",
        "ALTER TABLE api_keys ADD CONSTRAINT u UNIQUE (name)",
        "UPDATE api_keys SET note = ''",
        "DELETE FROM api_keys WHERE note IS NULL",
    ],
)
def test_nothing_stops_those_who_write(phase: str, statement: str) -> None:
    assert len(complaints(phase, [LOCK, statement])) == 1


@pytest.mark.parametrize("said", [[], ["SET LOCAL lock_timeout = '60s'"]])
def test_nothing_waits_long_for_a_lock(said: list[str]) -> None:
    (complaint,) = complaints("expand", [*said, "ALTER TABLE api_keys ADD COLUMN note TEXT"])
    assert "waits for its lock" in complaint


def test_a_table_that_the_migration_makes_is_its_own() -> None:
    made = [
        "\nCREATE TABLE notes (\n\tid INTEGER NOT NULL\n)\n",
        "CREATE INDEX notes_idx ON notes (id)",
        "ALTER TABLE notes ADD CONSTRAINT c CHECK (id > 0)",
        "INSERT INTO notes (id) VALUES (1)",
    ]
    assert complaints("expand", made) == []
