"""`gateway keys`: what it makes, shows and ends, and how it refuses."""

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from app.cli.keys import keys
from app.store.database import create_engine
from app.store.keys import ApiKey, KeyStore
from tests.integration.cli.key_commands import PEPPER, Run, created, invoke


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
    assert found.policy.model_dump(exclude_none=True) == {
        "models": ("qwythos", "other"),
        "max_output_tokens": 512,
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "concurrency": 4,
    }


def test_a_key_is_shown_with_its_policy_and_without_its_secret(run: Run) -> None:
    thought = ("--reasoning", "sealed", "--max-thinking-tokens", "64", "--tool", "read_*")
    filters = ("--filter-profile", "strict", "--domain", "law=refuse", "--audit", "metadata")
    key = created(
        run, "--name", "shown", "--expires-in", "2h", "--model", "qwythos", *thought, *filters
    )
    run("rotate", key["id"])
    result = run("show", key["id"])
    assert result.exit_code == 0
    shown = result.stdout
    assert key["secret"] not in shown
    assert f"sk-qw-...{key['secret'][-4:]} until 2" in shown
    lines = shown.splitlines()
    assert lines[0].split() == ["id", key["id"]]
    assert lines[lines.index("policy") + 1 :] == [
        '  models: ["qwythos"]',
        "  reasoning: sealed",
        "  max_thinking_tokens: 64",
        '  tools: [{"name": "read_*"}]',
        "  filter_profile: strict",
        '  domains: {"law": "refuse"}',
        "  audit: metadata",
    ]
    as_json = json.loads(run("show", key["id"], "--json").stdout)
    assert as_json["policy"] == key["policy"]
    assert "secret" not in as_json


def test_a_key_without_a_policy_says_so_and_a_revoked_one_that_it_is(run: Run) -> None:
    key = created(run, "--name", "plain")
    run("revoke", key["id"])
    lines = run("show", key["id"]).stdout.splitlines()
    assert lines[-2:] == ["policy", "  as the gateway's settings say"]
    assert [line.split()[1] for line in lines if line.startswith("state")] == ["revoked"]
    assert any(line.startswith("revoked ") for line in lines)


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
        "PLAN",
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


@pytest.mark.parametrize("command", ["show", "revoke", "rotate"])
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
        (("--name", "x", "--max-thinking-tokens", "0"), "--max-thinking-tokens"),
        (("--name", "x", "--salvage-tokens", "0"), "--salvage-tokens"),
        (("--name", "x", "--reasoning", "some"), "--reasoning"),
        (("--name", "x", "--unreadable-reasoning", "some"), "--unreadable-reasoning"),
        (("--name", "x", "--think-in-answer", "some"), "--think-in-answer"),
        (("--name", "x", "--cold-sampling", "some"), "--cold-sampling"),
        (("--name", "x", "--audit", "some"), "--audit"),
        (("--name", "x", "--priority", "some"), "--priority"),
        (("--name", "x", "--worker-tag", "a b"), "--worker-tag"),
        (("--name", "x", "--engine-parameter", "prompt_logprobs"), "--engine-parameter"),
        (("--name", "x", "--model", "a\0b"), "--model: holds a NUL"),
        (("--name", "x", "--tool", "a b"), "--tool: is not a glob of tool names"),
        (("--name", "x", "--tool", ""), "--tool: string should have at least 1 character"),
        (("--name", "x", "--filter-profile", "No Such"), "--filter-profile: string should match"),
        (("--name", "x", "--domain", "art=refuse"), "--domain: 'art' is none of cybersecurity, "),
        (("--name", "x", "--domain", "\x1b[2J"), "--domain: '\\x1b[2J' is none of "),
        (("--name", "x", "--domain", "law"), "--domain: law: the action '' is none of allow, "),
        (("--name", "x", "--domain", "law=flag"), "--domain: law: the action 'flag' is none of "),
        (
            ("--name", "x", "--domain", "law=allow", "--domain", "law=refuse"),
            "--domain: law is given twice",
        ),
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
