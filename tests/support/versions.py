"""The gateway as it was before the newest migration, and as it may be after the next one."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from app.store.schema import SCHEMA_REVISION

PRESENT = Path(__file__).parents[2]
COMMAND_SECONDS = 120.0  # only spent on failure

GATEWAY = "from app.cli import main; main()"
PARTS = ("app", "migrations")
NEXT_REVISION = f"{int(SCHEMA_REVISION) + 1:04}"
NEXT_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "{SCHEMA_REVISION}"
branch_labels = None
depends_on = None

phase = "expand"
serves_code_from = "{SCHEMA_REVISION}"


def upgrade():
    op.execute("SET LOCAL lock_timeout = '1s'")
    op.add_column("audit_events", sa.Column("note", sa.Text))
    op.add_column("api_keys", sa.Column("note", sa.Text))
"""


class NoHistory(Exception):
    """There is no version before this one here; the text says what to do."""


def newest_revision(code: Path) -> str:
    return max(file.name for file in (code / "migrations" / "versions").glob("0*.py"))[:4]


def previous_version(to: Path) -> Path:
    """As it was committed before the newest migration was. Raises NoHistory."""
    (newest,) = (PRESENT / "migrations" / "versions").glob(f"{SCHEMA_REVISION}_*.py")
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest)).decode().strip()
    archive = _git("archive", f"{added}^" if added else "HEAD", *PARTS)
    to.mkdir()
    subprocess.run(["tar", "-x"], input=archive, cwd=to, check=True)
    return to


def next_version(to: Path) -> Path:
    """This one and a migration more, which adds columns to tables that every request uses."""
    for part in PARTS:
        shutil.copytree(PRESENT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "migrations" / "versions" / f"{NEXT_REVISION}_notes.py").write_text(NEXT_MIGRATION)
    schema = to / "app" / "store" / "schema.py"
    known = re.subn(f'"{SCHEMA_REVISION}"', f'"{NEXT_REVISION}"', schema.read_text("utf-8"))
    assert known[1] == 1
    schema.write_text(known[0], "utf-8")
    return to


class Command:
    """`gateway ...` of a version."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, code: Path, *arguments: str, settings: Mapping[str, object]) -> "Command":
        environment = {f"GATEWAY_{name.upper()}": str(v) for name, v in settings.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", GATEWAY, *arguments),
            env=environment | {"PATH": os.environ["PATH"], "PYTHONPATH": str(code)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def complains(self) -> str:
        """A line that it writes to standard error."""
        assert self._process.stderr is not None
        async with asyncio.timeout(COMMAND_SECONDS):
            return (await self._process.stderr.readline()).decode()

    async def output(self) -> str:
        """Of a command that ends well."""
        async with asyncio.timeout(COMMAND_SECONDS):
            out, errors = await self._process.communicate()
        assert self._process.returncode == 0, errors.decode()
        return out.decode()


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(
            ["git", "-C", str(PRESENT), *arguments], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistory(
            "the version before is not here: run it in a git repository with all of its history"
        ) from error
