"""A directory that cannot be used is said before anything is started, and to whom it concerns."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.support.gateway import PEPPER

Bad = Callable[[Path], Path]


def below_a_file(home: Path) -> Path:
    (home / "file").touch()
    return home / "file" / "audit"


def a_file(home: Path) -> Path:
    (home / "file").touch()
    return home / "file"


def a_link_to_nowhere(home: Path) -> Path:
    (home / "link").symlink_to(home / "nowhere")
    return home / "link"


BAD = [below_a_file, a_file, a_link_to_nowhere]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> Callable[..., Result]:
    """`gateway ...`, with all that it needs besides."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("GATEWAY_WORKERS", '["http://127.0.0.1:1"]')
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--port", "0"),
        ("serve", "--port", "0", "--processes", "2"),
        ("dev", "--port", "0"),
    ],
    ids=["serve", "processes", "dev"],
)
def test_it_is_one_line_that_names_the_setting(
    bad: Bad,
    arguments: tuple[str, ...],
    command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    directory = bad(tmp_path)
    monkeypatch.setenv("GATEWAY_AUDIT_DIRECTORY", str(directory))
    result = command(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: GATEWAY_AUDIT_DIRECTORY: cannot use {directory}: ")


def test_commands_that_record_nothing_need_none(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_AUDIT_DIRECTORY", str(a_file(tmp_path)))
    for arguments in (("keys", "create", "--name", "a"), ("keys", "list"), ("audit", "search")):
        assert command(*arguments).exit_code == 0
