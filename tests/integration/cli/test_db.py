import asyncio
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import make_url

from app.cli import main
from app.cli.db import db
from app.store.schema import SCHEMA_REVISION
from tests.conftest import execute


def test_an_upgrade_says_what_it_did_and_may_be_repeated(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path))
    first = CliRunner().invoke(db, ["upgrade"])
    assert first.stdout == f"upgraded from an empty database to {SCHEMA_REVISION}\n"
    second = CliRunner().invoke(db, ["upgrade"])
    assert second.stdout == f"already at {SCHEMA_REVISION}\n"


def test_an_unreachable_database_ends_with_one_line(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"postgresql://u:p@127.0.0.1:{unused_port}/x")
    result = CliRunner().invoke(db, ["upgrade"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the database does not answer: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_role_is_granted_what_a_gateway_needs(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"gateway_{uuid.uuid4().hex[:8]}"
    asyncio.run(execute(database_url, f"CREATE ROLE {role}"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    try:
        result = CliRunner().invoke(db, ["grant", role])
        assert result.stdout == f"{role} may run a gateway, and add to its audit log\n"
    finally:
        asyncio.run(execute(database_url, f"DROP OWNED BY {role}"))
        asyncio.run(execute(database_url, f"DROP ROLE {role}"))


def test_a_role_that_is_not_there_is_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    result = CliRunner().invoke(db, ["grant", "nobody"])
    assert result.exit_code == 1
    assert result.stderr == "error: There is no role 'nobody' in the database.\n"


def test_a_right_that_the_role_has_not_is_told_as_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"gateway_{uuid.uuid4().hex[:8]}"
    asyncio.run(execute(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'in-tests'"))
    as_role = make_url(database_url).set(username=role, password="in-tests")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", as_role.render_as_string(hide_password=False))
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", "p" * 32)
    try:
        result = CliRunner().invoke(main, ["keys", "list"])
    finally:
        asyncio.run(execute(database_url, f"DROP ROLE {role}"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the database refuses: permission denied for ")
    assert "`gateway db grant`" in result.stderr
