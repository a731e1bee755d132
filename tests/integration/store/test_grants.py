"""The role of a gateway: it ships, and changes nothing in the audit log."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.spool.frames import Frame, FrameKind
from app.errors import InvalidRequest
from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.grants import grant
from tests.integration.audit.logged import NOW, eventually
from tests.integration.audit.replica import TABLES, replica, tamper, verified
from tests.integration.audit.spool.spooling import message, query, requests, spooling
from tests.integration.store.clocked import Clock, store_on

PASSWORD = "a password for tests"
DENIED = "permission denied|must be owner"
TODAY = f"{datetime.fromtimestamp(NOW, UTC):%Y%m%d}"
YEAR_2006 = 1_136_073_600.0  # long before the partitions that a migration makes


@pytest.fixture
async def role(engine: AsyncEngine) -> AsyncIterator[str]:
    name = f'Gateway "{uuid.uuid4().hex[:8]}"'  # to be quoted
    quoted = '"' + name.replace('"', '""') + '"'
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN PASSWORD '{PASSWORD}'")
    yield name
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"DROP OWNED BY {quoted}")
        await connection.exec_driver_sql(f"DROP ROLE {quoted}")


@pytest.fixture
async def granted(engine: AsyncEngine, role: str) -> AsyncIterator[AsyncEngine]:
    """As that role, which may do what a gateway does."""
    await grant(engine, role)
    await grant(engine, role)  # again
    url = make_url(engine.url).set(username=role, password=PASSWORD, drivername="postgresql")
    granted = create_engine(url.render_as_string(hide_password=False), connections=2)
    yield granted
    await granted.dispose()


async def test_a_gateway_ships_all_that_it_records(
    tmp_path: Path, engine: AsyncEngine, granted: AsyncEngine
) -> None:
    async with spooling(tmp_path, granted) as process:
        await process.append_frames(Frame(FrameKind.REGISTRATION, b"{}"), message(b"{}"))
        await process.append(*requests(3))
        await eventually(lambda: process.written == 8)
    assert await query(engine, "SELECT count(*) FROM audit_records") == [(3,)]
    assert await query(engine, "SELECT number FROM audit_register") == [(1,)]


async def test_a_gateway_makes_the_partitions_that_it_needs(
    tmp_path: Path, engine: AsyncEngine, granted: AsyncEngine
) -> None:
    async with spooling(tmp_path, granted, recorded_at=YEAR_2006) as process:
        await process.append(*requests(1))
        await eventually(lambda: process.written == 2)
    used = "SELECT DISTINCT tableoid::regclass::text FROM audit_events ORDER BY 1 LIMIT 1"
    assert await query(engine, used) == [("audit_events_20060101",)]
    owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relispartition"
    assert await query(engine, owners) == [(engine.url.username,)]


async def test_a_gateway_verifies_all_that_is_logged_texts_included(
    tmp_path: Path, engine: AsyncEngine, granted: AsyncEngine
) -> None:
    await tamper(engine, f"TRUNCATE {TABLES}")  # what other tests have shipped is in no chain
    async with replica(tmp_path / "audit", engine) as process:
        await process.request("req_1")
    report = await verified(granted, tmp_path / "audit")
    assert report.findings.in_order() == []
    assert (report.chains, report.messages) == (1, 3)


async def test_keys_are_looked_up_and_changed(granted: AsyncEngine) -> None:
    keys = store_on(granted, Clock())
    made = await keys.create(KeyDraft(name="x", tenant="acme"))
    assert await keys.authenticate(made.secret) is not None
    await keys.revoke(made.key.id)


@pytest.mark.parametrize(
    "table",
    ["audit_events", "audit_messages", "audit_register", "audit_events_{day}"],
)
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {table} SET writer = writer",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "DROP TABLE {table}",
        "ALTER TABLE {table} ADD COLUMN x integer",
        "CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION lo_manage()",
    ],
)
async def test_nothing_in_the_log_is_changed(granted: AsyncEngine, table: str, change: str) -> None:
    statement = change.format(table=table.format(day=TODAY))
    if table == "audit_messages":
        statement = statement.replace("writer", "tenant")
    async with granted.connect() as connection:
        with pytest.raises(ProgrammingError, match=DENIED):
            await connection.exec_driver_sql(statement)


async def test_rights_that_the_role_had_are_taken_from_it(engine: AsyncEngine, role: str) -> None:
    quoted = '"' + role.replace('"', '""') + '"'
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"GRANT ALL ON audit_events TO {quoted}")
    await grant(engine, role)
    rights = text(
        "SELECT privilege_type FROM information_schema.role_table_grants "
        "WHERE grantee = :role AND table_name = 'audit_events' ORDER BY 1"
    )
    async with engine.connect() as connection:
        assert list(await connection.scalars(rights, {"role": role})) == ["INSERT", "SELECT"]


async def test_a_role_that_could_change_the_log_anyway_is_refused(
    engine: AsyncEngine, role: str
) -> None:
    owner = str(engine.url.username)
    quoted = '"' + role.replace('"', '""') + '"'
    with pytest.raises(InvalidRequest, match="owns the audit log"):
        await grant(engine, owner)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"ALTER ROLE {quoted} SUPERUSER")
    with pytest.raises(InvalidRequest, match="no grant can keep it"):
        await grant(engine, role)


async def test_a_role_that_is_not_there_is_named(engine: AsyncEngine) -> None:
    with pytest.raises(InvalidRequest, match="no role 'nobody; DROP TABLE plans'"):
        await grant(engine, "nobody; DROP TABLE plans")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("GRANT DELETE ON audit_events TO PUBLIC", "REVOKE DELETE ON audit_events FROM PUBLIC"),
        (
            "GRANT UPDATE (payload) ON audit_events TO PUBLIC",
            "REVOKE UPDATE (payload) ON audit_events FROM PUBLIC",
        ),
        (
            "GRANT UPDATE ON audit_messages_{day} TO PUBLIC",
            "REVOKE UPDATE ON audit_messages_{day} FROM PUBLIC",
        ),
        (
            "ALTER DEFAULT PRIVILEGES GRANT UPDATE ON TABLES TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES REVOKE UPDATE ON TABLES FROM PUBLIC",
        ),
    ],
    ids=["the log", "a column of it", "a partition", "partitions to come"],
)
async def test_rights_that_come_another_way_are_told(
    engine: AsyncEngine, role: str, given: str, taken: str
) -> None:
    async with engine.begin() as connection:
        await connection.exec_driver_sql(given.format(day=TODAY))
    with pytest.raises(InvalidRequest, match="by rights that others have given it"):
        await grant(engine, role)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(taken.format(day=TODAY))
    await grant(engine, role)
