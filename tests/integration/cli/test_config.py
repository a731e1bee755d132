"""`gateway config`: what is in force, what is wrong with it, and no secret in either."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from app.cli import main
from app.settings import Settings

PEPPER = "canary-of-the-pepper-0123456789abcdef"
PASSWORD = "canary-of-the-database"
WORKER_KEY = "canary-of-the-worker"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings from all three places, with a secret in each."""
    pepper = tmp_path / "pepper"
    pepper.write_text(f"{PEPPER}\n")
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"queue_seconds: 120\nport: 1\nworkers: [{{url: 'http://w:8000', api_key: {WORKER_KEY}}}]\n"
    )
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    monkeypatch.setenv("GATEWAY_KEY_PEPPER_FILE", str(pepper))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"postgresql://gateway:{PASSWORD}@db:5432/gateway")
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    monkeypatch.setenv("GATEWAY_TRUSTED_PROXIES", '["10.0.0.0/8"]')


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["config", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.usefixtures("given")
def test_what_was_set_is_printed_with_its_source() -> None:
    result = run("print")
    assert result.stdout == (
        "# from the environment\n"
        "GATEWAY_DATABASE_URL='postgresql://gateway:***@db:5432/gateway'\n"
        "GATEWAY_PORT=9000\n"
        "GATEWAY_TRUSTED_PROXIES='[\"10.0.0.0/8\"]'\n"
        "\n"
        "# from files that variables ending in _FILE name\n"
        "GATEWAY_KEY_PEPPER='***'\n"
        "\n"
        "# from the file that GATEWAY_CONFIG names\n"
        "GATEWAY_QUEUE_SECONDS=120.0\n"
        'GATEWAY_WORKERS=\'[{"api_key": "***", "url": "http://w:8000/"}]\'\n'
    )
    assert result.exit_code == 0


@pytest.mark.usefixtures("given")
def test_as_yaml_it_is_one_file_of_all_settings() -> None:
    printed = yaml.safe_load(run("print", "--all", "--format", "yaml").stdout)
    assert set(printed) == set(Settings.model_fields)
    assert printed["port"] == 9000
    assert printed["queue_seconds"] == 120.0
    assert printed["trusted_proxies"] == ["10.0.0.0/8"]
    assert printed["max_headers"] == 100


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("form", ["env", "yaml"])
def test_no_secret_is_printed(form: str) -> None:
    printed = run("print", "--all", "--format", form).output
    assert "canary" not in printed


def test_with_nothing_set_it_says_so() -> None:
    assert run("print").stdout == "# nothing is set: all is as it is by default\n"


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("command", ["print", "check"])
def test_a_name_that_is_no_setting_is_warned_of(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_QUEUE_SECOND", "5")
    result = run(command)
    assert result.exit_code == 0
    assert result.stderr == "warning: GATEWAY_QUEUE_SECOND: is not a setting of the gateway\n"


@pytest.mark.usefixtures("given")
def test_good_settings_are_good() -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "the settings are good\n")


@pytest.mark.usefixtures("given")
def test_all_that_cannot_be_read_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "many")
    monkeypatch.setenv("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8")
    monkeypatch.setenv("GATEWAY_KEY_PEPPER_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", " ")
    for command in ("check", "print"):
        result = run(command)
        assert result.exit_code == 2
        assert result.stdout == ""
        named = [f"GATEWAY_{name}" for name in ("PORT", "TRUSTED_PROXIES", "ADMIN_TOKEN")]
        for variable in (*named, "GATEWAY_KEY_PEPPER_FILE"):
            assert f"{variable}: " in result.stderr


@pytest.mark.usefixtures("given")
def test_all_that_serve_would_refuse_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SEALING_KEY", "canary-that-is-no-key")
    monkeypatch.setenv("GATEWAY_REDIS_URL", "http://:canary@h")
    monkeypatch.setenv("GATEWAY_FILTER_PROFILE", "none-such")
    monkeypatch.setenv("GATEWAY_AUDIT_CHECKPOINTS", "ftp://h/x")
    result = run("check")
    assert result.exit_code == 2
    named = [line.removeprefix("error: ").partition(":")[0] for line in result.stderr.splitlines()]
    assert sorted(named) == [
        "GATEWAY_AUDIT_CHECKPOINTS",
        "GATEWAY_FILTER_PROFILE",
        "GATEWAY_REDIS_URL",
        "GATEWAY_SEALING_KEY",
    ]
    assert "canary" not in result.output
