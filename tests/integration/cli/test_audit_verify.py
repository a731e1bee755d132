"""`gateway audit verify`, `export` and `public-key`, as a person runs them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.signing import derived_signing_keys
from app.store.database import create_engine
from tests.integration.audit.replica import TABLES, replica, tamper

Command = Callable[..., Result]

KEYS = derived_signing_keys(b"pepper of the tests")
STRANGER = derived_signing_keys(b"another pepper").public_key


def on(url: str, step: Callable[[AsyncEngine], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = create_engine(url)
        try:
            await step(engine)
        finally:
            await engine.dispose()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def log(database_url: str, tmp_path: Path) -> None:
    """A closed chain with one request, as a gateway with this home and pepper leaves it."""

    async def step(engine: AsyncEngine) -> None:
        await tamper(engine, f"TRUNCATE {TABLES}")
        async with replica(tmp_path / "audit", engine, keys=KEYS) as process:
            await process.request("req_1", said="hello")

    on(database_url, step)


@pytest.fixture
def sql(database_url: str) -> Callable[[str], None]:
    return lambda statement: on(database_url, lambda engine: tamper(engine, statement))


def test_an_untouched_log_is_said_to_be_so(command: Command) -> None:
    result = command("audit", "verify")

    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "Verified 1 chain, 4 events, 3 messages, 2 checkpoints, 1 row of the register.\n"
        "\n"
        "Nothing was changed, as far as this can be told.\n"
    )


def test_the_first_bad_record_of_a_chain_is_named(
    command: Command, sql: Callable[[str], None]
) -> None:
    sql("UPDATE audit_events SET payload = '{}' WHERE kind = 2")

    result = command("audit", "verify")

    assert result.exit_code == 1
    assert "1 finding. Of each chain the first one:" in result.stdout
    assert ", event 3, request req_1: changed" in result.stdout


def test_what_an_editor_wrote_cannot_steer_the_terminal(
    command: Command, sql: Callable[[str], None]
) -> None:
    sql("UPDATE audit_events SET request_id = E'\\x1b[2J\\nreq', payload = '' WHERE kind = 2")

    result = command("audit", "verify")

    assert "\x1b" not in result.stdout
    assert r"request \x1b[2J\nreq" in result.stdout


def test_the_name_of_a_chain_that_an_editor_made_up_cannot_either(
    command: Command, sql: Callable[[str], None]
) -> None:
    sql(
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload) "
        "VALUES (now(), E'\\x1b[2J', 1, 1, '', '')"
    )

    result = command("audit", "verify")

    assert "\x1b" not in result.stdout
    assert r"Not yet covered by a checkpoint: 1 event of \x1b[2J, from 1 on." in result.stdout


def test_the_second_place_is_the_file_of_the_settings_or_the_one_given(
    command: Command, sql: Callable[[str], None], tmp_path: Path
) -> None:
    sql(f"TRUNCATE {TABLES}")
    assert command("audit", "verify").exit_code == 1
    copy = tmp_path / "copy.jsonl"
    (tmp_path / "audit" / "checkpoints.jsonl").rename(copy)

    without = command("audit", "verify")
    given = command("audit", "verify", "--checkpoints", str(copy))

    assert without.exit_code == 0
    assert "The second place was not looked at" in without.stdout
    assert given.exit_code == 1
    assert "all of its chain is missing" in given.stdout


def test_with_another_key_nothing_is_believed(command: Command) -> None:
    result = command("audit", "verify", "--public-key", STRANGER)

    assert result.exit_code == 1
    assert "which is not ours" in result.stdout


def test_a_part_without_its_messages_is_verified(command: Command) -> None:
    result = command("audit", "verify", "--since", "1h", "--without-content")

    assert result.exit_code == 0
    assert "4 events, 0 messages" in result.stdout


def test_what_cannot_be_verified_ends_with_2(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("audit", "verify", "--checkpoints", "missing.jsonl").exit_code == 2
    assert command("audit", "verify", "--public-key", "nonsense").exit_code == 2
    (tmp_path / "nonsense").write_text("nonsense\n")
    assert (
        command(
            "audit", "verify", "--public-key", STRANGER, "--export", str(tmp_path / "nonsense")
        ).exit_code
        == 2
    )
    monkeypatch.setenv("GATEWAY_AUDIT_SIGNING_KEY", "no key!")
    refused = command("audit", "verify")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "GATEWAY_AUDIT_SIGNING_KEY: signing key 1 is not base64" in refused.stderr
    monkeypatch.delenv("GATEWAY_AUDIT_SIGNING_KEY")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert command("audit", "verify").exit_code == 2


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.zst", "log.parquet"])
def test_what_is_exported_is_verified_with_nothing_but_the_public_key(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    file = str(tmp_path / name)
    exported = command("audit", "export", "--with-content", "-o", file)
    public_key = command("audit", "public-key").stdout.strip()
    for variable in ("GATEWAY_DATABASE_URL", "GATEWAY_KEY_PEPPER", "GATEWAY_HOME"):
        monkeypatch.delenv(variable)

    verified = command("audit", "verify", "--export", file, "--public-key", public_key)

    assert exported.exit_code == 0, exported.output
    assert exported.stdout == (
        f"{file}: 4 events, 3 messages, 1 checkpoint of the second place, 1 row of the register\n"
    )
    assert public_key == KEYS.public_key
    assert verified.exit_code == 0, verified.output
    assert "Verified 1 chain, 4 events, 3 messages, 2 checkpoints" in verified.stdout


def test_what_a_file_says_that_it_is_is_told_first_and_that_nobody_has_signed_it(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "log.jsonl"
    until = "2040-01-01T00:00:00+00:00"
    command("audit", "export", "--until", until, "--tenant", "acme", "-o", str(file))
    file.write_bytes(file.read_bytes().replace(b'"acme"', b'"\\u001b[2J"', 1))

    result = command("audit", "verify", "--export", str(file), "--public-key", KEYS.public_key)

    first, _, second, *_ = result.stdout.splitlines()
    assert first.startswith(f"The file says that it is what was recorded before {until} with ")
    assert "without what was said, made at " in first
    assert first.endswith("Nobody has signed that.")
    assert "\x1b" not in result.stdout
    assert second.startswith("Verified 1 chain")
    assert "Only a part of the log was verified." in result.stdout


def test_a_file_that_is_there_is_left_alone(command: Command, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")

    result = command("audit", "export", "-o", str(there))

    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert there.read_text() == "mine"


def test_an_export_goes_to_a_file_and_not_to_one_called_dash(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = command("audit", "export", "-o", "-")

    assert result.exit_code == 2
    assert "standard output" in result.stderr
    assert not (tmp_path / "-").exists()


def test_an_export_is_verified_by_a_key_that_is_given_and_whole(
    command: Command, tmp_path: Path
) -> None:
    file = str(tmp_path / "log.jsonl")
    command("audit", "export", "-o", file)

    assert "--public-key" in command("audit", "verify", "--export", file).stderr
    part = command(
        "audit", "verify", "--export", file, "--public-key", KEYS.public_key, "--since", "1h"
    )
    assert part.exit_code == 2


def test_the_keys_are_printed_with_the_one_in_use_first(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_AUDIT_SIGNING_KEY", f"{'A' * 43}=,{'B' * 43}=")

    keys = command("audit", "public-key").stdout.split()

    assert len(set(keys)) == 2
    assert all(len(each) == 64 for each in keys)
