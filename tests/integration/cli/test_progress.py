"""How far a long command is, as a person at a terminal sees it."""

import io
import re
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli import main
from tests.integration.audit.replica import TABLES, replica, tamper
from tests.integration.cli.conftest import Command
from tests.integration.cli.test_audit_verify import KEYS, on

POSITION = re.compile(r" (\d+)/\d+")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def log(database_url: str, tmp_path: Path) -> None:
    """Of one request, signed by the key that the pepper of `command` gives."""

    async def step(engine: AsyncEngine) -> None:
        await tamper(engine, f"TRUNCATE {TABLES}")
        async with replica(tmp_path / "audit", engine, keys=KEYS) as process:
            await process.request("req_1", said="hello")

    on(database_url, step)


@pytest.mark.usefixtures("command")
def test_verify_and_export_show_how_far_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = str(tmp_path / "log.jsonl")
    for label, arguments in (
        ("Verifying", ("verify",)),
        ("Exporting", ("export", "--output", file)),
        ("Verifying", ("verify", "--export", file, "--public-key", KEYS.public_key)),
    ):
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            main(("audit", *arguments), standalone_mode=False)
        assert label in terminal.getvalue()
        positions = [int(position) for position in POSITION.findall(terminal.getvalue())]
        assert positions[0] == 0 < positions[-1]


def test_nothing_of_it_is_written_where_no_terminal_is(command: Command) -> None:
    assert command("audit", "verify").stderr == ""
