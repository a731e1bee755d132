import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from app.cli.keys import keys
from app.store.database import create_engine
from app.store.keys import ApiKey, KeyStore

PEPPER = "pepper of the tests"

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`gateway keys ...` on the tests' database."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path))
    return lambda *arguments: invoke(keys, *arguments)


def invoke(command: click.Command, *arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def created(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("create", "--json", *arguments)
    assert result.exit_code == 0, result.output
    key: dict[str, Any] = json.loads(result.stdout)
    return key


def opened(database_url: str, secret: str) -> ApiKey | None:
    """What the gateway makes of the secret."""

    async def authenticate() -> ApiKey | None:
        engine = create_engine(database_url)
        try:
            store = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=10)
            return await store.authenticate(secret)
        finally:
            await engine.dispose()

    return asyncio.run(authenticate())


def test_a_created_key_opens_the_gateway_with_its_limits(run: Run, database_url: str) -> None:
    limits = ("--rpm", "60", "--tpm", "1000", "--concurrency", "4", "--max-output-tokens", "512")
    models = ("--model", "qwythos", "--model", "other")
    key = created(run, "--name", "backend", "--tenant", "acme", *limits, *models)
    assert list(key)[:3] == ["object", "id", "name"]
    assert (key["name"], key["tenant"]) == ("backend", "acme")
    found = opened(database_url, key["secret"])
    assert found is not None
    assert found.id == key["id"]
    assert found.policy.model_dump() == {
        "models": ("qwythos", "other"),
        "max_output_tokens": 512,
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "concurrency": 4,
    }


def test_a_key_has_the_default_tenant_and_no_limits(run: Run) -> None:
    key = created(run, "--name", "backend")
    assert key["tenant"] == "default"
    assert key["expires_at"] is None
    assert set(key["policy"].values()) == {None}


def test_a_person_sees_the_secret_on_a_line_of_its_own(run: Run, database_url: str) -> None:
    result = run("create", "--name", "backend", "--expires-in", "30d")
    match = re.search(r"^secret +(sk-qw-\w+)$", result.stdout, re.MULTILINE)
    assert match is not None
    assert "not shown again" in result.stdout
    assert "never" not in result.stdout
    assert opened(database_url, match[1]) is not None


def test_an_expiry_is_counted_from_now(run: Run) -> None:
    key = created(run, "--name", "backend", "--expires-in", "2h")
    assert key["expires_at"] == pytest.approx(time.time() + 7200, abs=60)


def test_keys_are_listed_without_their_secrets(run: Run) -> None:
    first = created(run, "--name", "first", "--tenant", "listed")
    second = created(run, "--name", "second", "--tenant", "listed")
    lines = run("list", "--tenant", "listed", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [second["id"], first["id"]]
    table = run("list", "--tenant", "listed").stdout
    assert first["secret"] not in table
    assert f"sk-qw-...{first['secret'][-4:]}" in table
    assert table.splitlines()[0].split() == [
        "ID",
        "NAME",
        "TENANT",
        "STATE",
        "CREATED",
        "EXPIRES",
        "SECRETS",
    ]


def test_a_revoked_key_opens_nothing_and_says_so(run: Run, database_url: str) -> None:
    key = created(run, "--name", "backend", "--tenant", "revoked")
    assert run("revoke", key["id"]).exit_code == 0
    assert opened(database_url, key["secret"]) is None
    assert "revoked" in run("list", "--tenant", "revoked").stdout.splitlines()[1]


def test_rotation_prints_a_new_secret_and_keeps_the_old_for_a_day(
    run: Run, database_url: str
) -> None:
    key = created(run, "--name", "backend")
    rotated = json.loads(run("rotate", key["id"], "--json").stdout)
    assert rotated["id"] == key["id"]
    assert rotated["secret"] != key["secret"]
    for secret in (key["secret"], rotated["secret"]):
        assert opened(database_url, secret) is not None
    end = rotated["secrets"][1]["expires_at"]
    assert end == pytest.approx(time.time() + 24 * 3600, abs=60)


def test_rotation_without_grace_ends_the_old_secret(run: Run, database_url: str) -> None:
    key = created(run, "--name", "backend")
    assert run("rotate", key["id"], "--grace", "0").exit_code == 0
    assert opened(database_url, key["secret"]) is None


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_id_ends_with_one_line(run: Run, command: str) -> None:
    result = run(command, "key_none")
    assert result.exit_code == 1
    assert result.stderr == "error: There is no API key with the id 'key_none'.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", ""), "--name"),
        (("--name", "a\0b"), "--name"),
        (("--name", "x", "--tenant", "a b"), "--tenant"),
        (("--name", "x", "--rpm", "0"), "--rpm"),
        (("--name", "x", "--max-output-tokens", "-1"), "--max-output-tokens"),
        (("--name", "x", "--expires-in", "soon"), "--expires-in"),
        (("--name", "x", "--expires-in", "0s"), "--expires-in"),
        ((), "--name"),
    ],
)
def test_a_bad_option_is_named_and_ends_with_2(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = run("create", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]


def test_without_a_pepper_no_key_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_KEY_PEPPER")
    result = run("create", "--name", "backend")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: GATEWAY_KEY_PEPPER: is not set")
    assert run("list").exit_code == 0


def test_an_unmigrated_database_says_what_to_run(
    run: Run, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", empty_database_url)
    result = run("list")
    assert result.exit_code == 1
    assert result.stderr == "error: the database is not migrated: run `gateway db upgrade`\n"


def test_an_unreachable_database_is_one_line_without_the_password(
    run: Run, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://user:hunter2@127.0.0.1:{unused_port}/gateway"
    monkeypatch.setenv("GATEWAY_DATABASE_URL", url)
    result = run("list")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: the database does not answer: ")
    assert "GATEWAY_DATABASE_URL" in result.stderr
    assert "hunter2" not in result.stderr


def test_a_url_that_is_none_ends_with_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "mysql://localhost/x")
    result = run("list")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: GATEWAY_DATABASE_URL: ")


def test_without_settings_the_embedded_database_and_pepper_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path / "var"))
    key = json.loads(invoke(keys, "create", "--name", "backend", "--json").stdout)
    assert (tmp_path / "var" / "pepper").is_file()
    listed = json.loads(invoke(keys, "list", "--json").stdout)
    assert listed["id"] == key["id"]
