"""`gateway doctor`, as an operator and as a script run it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.support.scripted_worker import ScriptedWorker

PEPPER = "pepper-canary-0123456789abcdefghij"
SECONDS = "20"  # for each check, on a loaded machine; only spent on failure

Doctor = Callable[..., Result]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, ["doctor", "--timeout", SECONDS, *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


@pytest.fixture
def with_parts(
    monkeypatch: pytest.MonkeyPatch, database_url: str, newest_redis_url: str, unused_port: int
) -> None:
    """All is there but the worker."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("GATEWAY_REDIS_URL", newest_redis_url)
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("GATEWAY_WORKERS", f'["http://127.0.0.1:{unused_port}"]')


def findings(result: Result) -> dict[str, dict[str, str]]:
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert {document["object"] for document in documents} == {"doctor.finding"}
    return {document["check"]: document for document in documents}


@pytest.mark.usefixtures("with_parts")
def test_a_table_says_what_is_wrong_and_what_to_change(doctor: Doctor) -> None:
    result = doctor()
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["CHECK", "STATUS", "FOUND"]
    (at,) = (i for i, line in enumerate(lines) if line.startswith("worker 127.0.0.1:"))
    assert "failed" in lines[at]
    assert lines[at + 1].strip().startswith("-> is the URL right")
    assert lines[-1].startswith("1 failed, "), result.stdout
    assert result.exit_code == 1


@pytest.mark.usefixtures("with_parts")
def test_as_json_each_finding_is_a_line(doctor: Doctor) -> None:
    result = doctor("--json", "--no-worker-questions")
    found = findings(result)
    assert {"settings", "database", "redis", "spool", "checkpoints", "rules"} <= set(found)
    assert found["database schema"]["status"] == "ok"
    assert found["redis scripts"]["status"] == "ok"
    assert result.exit_code == 1


@pytest.mark.usefixtures("with_parts")
async def test_warnings_fail_only_where_that_is_asked_for(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, worker: ScriptedWorker
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", json.dumps([worker.url]))
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", "a-short-pepper")
    mild = await asyncio.to_thread(doctor, "--json")
    told = findings(mild).values()
    assert [document for document in told if document["status"] == "failed"] == []
    assert "warning" in {document["status"] for document in told}
    assert mild.exit_code == 0
    assert (await asyncio.to_thread(doctor, "--strict")).exit_code == 1


def test_settings_that_cannot_be_read_end_it(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "many")
    monkeypatch.setenv("GATEWAY_WORKERS", "many")
    result = doctor()
    assert result.exit_code == 2
    assert "GATEWAY_PORT: " in result.stderr
    assert "GATEWAY_WORKERS: " in result.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize(
    "place", ["127.0.0.1:{port}", "127.0.0.1:notaport", "[127.0.0.1", "no-such-host.invalid"]
)
def test_no_secret_is_told_whatever_goes_wrong(
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    unused_port: int,
    place: str,
    form: tuple[str, ...],
) -> None:
    where = place.format(port=unused_port)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"postgresql://u:canary-db@{where}/x")
    monkeypatch.setenv("GATEWAY_REDIS_URL", f"redis://u:canary-redis@{where}/0")
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "canary-of-the-admin")
    monkeypatch.setenv("GATEWAY_SEALING_KEY", "canary-of-the-sealing-key")
    monkeypatch.setenv("GATEWAY_AUDIT_SIGNING_KEY", "canary-of-the-signing-key")
    worker = {"url": f"http://u:canary-url@{where}", "api_key": "canary-of-the-worker"}
    monkeypatch.setenv("GATEWAY_WORKERS", json.dumps([worker]))
    result = doctor(*form)
    assert result.exit_code in (1, 2)
    assert "canary" not in result.output
