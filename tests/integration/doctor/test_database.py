"""A real PostgreSQL, with something wrong on purpose."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.doctor.database import check
from app.doctor.database_log import log_findings
from app.doctor.finding import Status
from app.store.grants import grant
from app.store.schema import SCHEMA_REVISION
from tests.conftest import execute
from tests.integration.doctor.conftest import MakeVisit
from tests.integration.doctor.visiting import of, statuses

HOUR_SECONDS = 3600.0
PASSWORD = "a-password-for-tests"


@pytest.fixture
async def role(engine: AsyncEngine) -> AsyncIterator[str]:
    """It may connect, and no more."""
    name = f"gateway_{uuid.uuid4().hex[:8]}"
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield name
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"DROP OWNED BY {name}")
        await connection.exec_driver_sql(f"DROP ROLE {name}")


@pytest.fixture
def role_url(database_url: str, role: str) -> str:
    url = make_url(database_url).set(username=role, password=PASSWORD)
    return url.render_as_string(hide_password=False)


async def test_what_a_gateway_needs_is_there(
    visit: MakeVisit, engine: AsyncEngine, role: str, role_url: str
) -> None:
    await grant(engine, role)
    await execute(role_url, f"ALTER ROLE {role} SET synchronous_commit = on")
    findings = await check(visit(database_url=role_url))
    expected = [
        "database", "database connections", "database clock", "database transport",
        "database schema", "database rights", "audit partitions",
    ]  # fmt: skip
    found = statuses(findings)
    assert {name: found[name] for name in expected} == dict.fromkeys(expected, "ok")
    assert of(findings, "database").found.startswith("PostgreSQL ")
    assert role in of(findings, "database").found


async def test_a_role_without_rights_is_told_how_to_get_them(
    visit: MakeVisit, role_url: str
) -> None:
    finding = of(await check(visit(database_url=role_url)), "database rights")
    assert finding.status is Status.FAILED
    assert "api_keys" in finding.found
    assert "more" in finding.found
    assert "gateway db grant" in (finding.advice or "")


async def test_a_right_that_is_missing_is_named(
    visit: MakeVisit, engine: AsyncEngine, role: str, role_url: str
) -> None:
    await grant(engine, role)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"REVOKE DELETE ON plans FROM {role}")
    finding = of(await check(visit(database_url=role_url)), "database rights")
    assert finding.status is Status.FAILED
    assert finding.found == f"{role} may not DELETE plans"
    assert "gateway db grant" in (finding.advice or "")


async def test_a_role_that_may_change_the_log_is_warned_of(
    visit: MakeVisit, engine: AsyncEngine, role: str, role_url: str
) -> None:
    await grant(engine, role)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"GRANT UPDATE ON audit_register TO {role}")
    finding = of(await check(visit(database_url=role_url)), "database rights")
    assert finding.status is Status.WARNING
    assert "audit_register" in finding.found


async def test_the_owner_may_change_the_log(visit: MakeVisit, database_url: str) -> None:
    finding = of(await check(visit(database_url=database_url)), "database rights")
    assert finding.status is Status.WARNING
    assert "does not own the tables" in (finding.advice or "")


async def test_a_server_that_may_lose_what_it_took_is_warned_of(
    visit: MakeVisit, engine: AsyncEngine, role: str, role_url: str
) -> None:
    await grant(engine, role)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"ALTER ROLE {role} SET synchronous_commit = off")
    finding = of(await check(visit(database_url=role_url)), "database durability")
    assert finding.status is Status.WARNING
    assert "synchronous_commit" in finding.found


async def test_an_empty_database_needs_its_schema(
    visit: MakeVisit, empty_database_url: str
) -> None:
    finding = of(await check(visit(database_url=empty_database_url)), "database schema")
    assert finding.status is Status.FAILED
    assert "gateway db upgrade" in (finding.advice or "")


@pytest.mark.parametrize(
    ("revision", "advice"), [("0001", "gateway db upgrade"), ("9999", "run a newer version")]
)
async def test_a_schema_that_does_not_serve_this_version_is_named(
    visit: MakeVisit, empty_database_url: str, revision: str, advice: str
) -> None:
    for table, column in (
        ("alembic_version", "version_num"),
        ("schema_compatibility", "serves_code_from"),
    ):
        await execute(
            empty_database_url, f"CREATE TABLE {table} AS SELECT '{revision}'::text AS {column}"
        )
    finding = of(await check(visit(database_url=empty_database_url)), "database schema")
    assert finding.status is Status.FAILED
    assert f"revision {revision}" in finding.found
    assert SCHEMA_REVISION in finding.found
    assert advice in (finding.advice or "")


async def test_a_database_that_takes_no_writes_is_not_the_one(
    visit: MakeVisit, engine: AsyncEngine, role: str, role_url: str
) -> None:
    await grant(engine, role)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            f"ALTER ROLE {role} SET default_transaction_read_only = on"
        )
    finding = of(await check(visit(database_url=role_url)), "database")
    assert finding.status is Status.FAILED
    assert "takes no writes" in finding.found


async def test_a_clock_that_is_off_is_seen(visit: MakeVisit, database_url: str) -> None:
    right = visit(database_url=database_url)
    finding = of(
        await check(replace(right, now=lambda: right.now() - HOUR_SECONDS)), "database clock"
    )
    assert finding.status is Status.WARNING
    assert "ahead of us" in finding.found


async def test_too_few_connections_are_counted(visit: MakeVisit, database_url: str) -> None:
    many = await check(visit(database_url=database_url, replicas=100_000))
    finding = of(many, "database connections")
    assert finding.status is Status.WARNING
    assert "max_connections" in (finding.advice or "")


async def test_partitions_that_nobody_made_are_missed(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        findings = await log_findings(connection, datetime.now(UTC) + timedelta(days=30))
    finding = of(findings, "audit partitions")
    assert finding.status is Status.WARNING
    assert "audit_partitions_not_made" in (finding.advice or "")


async def test_a_database_that_is_away_is_one_finding(visit: MakeVisit, unused_port: int) -> None:
    url = f"postgresql://gateway:{PASSWORD}@127.0.0.1:{unused_port}/gateway"
    (finding,) = await check(visit(database_url=url))
    assert finding.status is Status.FAILED
    assert PASSWORD not in f"{finding}"


async def test_without_a_database_it_says_so(visit: MakeVisit) -> None:
    (finding,) = await check(visit())
    assert finding.status is Status.SKIPPED
    assert "gateway dev" in finding.found
