from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli import main
from app.cli.keys import keys
from tests.integration.cli.key_commands import PEPPER, Run, invoke
from tests.support.gateway import new_key
from tests.support.reading_worker import ReadingWorker

Command = Callable[..., Result]


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`gateway ...` on the tests' database."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`gateway keys ...` on the tests' database."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("GATEWAY_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("GATEWAY_HOME", str(tmp_path))
    return lambda *arguments: invoke(keys, *arguments)


@pytest.fixture
async def key(engine: AsyncEngine) -> str:
    """For a process of `gateway serve`."""
    return await new_key(engine)


@pytest.fixture
async def reader() -> AsyncIterator[ReadingWorker]:
    async with ReadingWorker() as worker:
        yield worker
