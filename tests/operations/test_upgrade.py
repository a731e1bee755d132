"""An upgrade under traffic: the schema first, then one replica after another."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.schema import SCHEMA_REVISION
from tests.integration.store.test_migrate_in_use import upgrade_to
from tests.support.envoy import Envoy, running_envoy
from tests.support.gateway import PEPPER
from tests.support.replica import Replica
from tests.support.rolling import WHOLE, outcomes
from tests.support.rolling import replicas as replicas_of
from tests.support.rolling import workers as workers_of
from tests.support.traffic import Traffic, traffic
from tests.support.versions import (
    NEXT_REVISION,
    PRESENT,
    Command,
    NoHistory,
    newest_revision,
    next_version,
    previous_version,
)

CLIENTS = 8
TENANT = "acme"
CREATE_KEY = ("keys", "create", "--name", "x", "--tenant", TENANT, "--concurrency", "100", "--json")
# Shorter than in production: each look-up of a key meets the tables that change.
SETTINGS = {"key_pepper": PEPPER, "key_cache_seconds": 0.1, "drain_grace_seconds": 1.5}


async def test_the_version_before_serves_on_the_new_schema_until_it_is_replaced(
    tmp_path: Path, empty_database_url: str, newest_redis_url: str, envoy_binary: str
) -> None:
    try:
        before = previous_version(tmp_path / "before")
    except NoHistory as reason:
        pytest.skip(str(reason))
    settings = SETTINGS | {"database_url": empty_database_url, "redis_url": newest_redis_url}
    async with upgrading(before, settings, envoy_binary, tmp_path) as (replicas, envoy, asked):
        upgrade = await Command.start(PRESENT, "db", "upgrade", settings=settings)
        assert await upgrade.output() == (
            f"upgraded from {newest_revision(before)} to {SCHEMA_REVISION}\n"
        )
        await asked.goes_on(CLIENTS)
        # Code before 0007 does not start on a newer schema (what does is the next test's), and when
        # it is told to end it refuses requests at once, of which none may fail here.
        if leaves_in_peace(before):
            for replica in replicas:
                await replace(replica, PRESENT, envoy)


def leaves_in_peace(code: Path) -> bool:
    return "announce" in (code / "app" / "drain.py").read_text("utf-8")


async def test_this_version_restarts_on_a_newer_schema_beside_the_version_that_made_it(
    tmp_path: Path, empty_database_url: str, newest_redis_url: str, envoy_binary: str
) -> None:
    new = next_version(tmp_path / "next")
    settings = SETTINGS | {"database_url": empty_database_url, "redis_url": newest_redis_url}
    async with upgrading(PRESENT, settings, envoy_binary, tmp_path) as (replicas, envoy, asked):
        # What the migration wants to have, this transaction holds.
        async with database(settings) as engine, engine.begin() as reader:
            await reader.execute(text("SELECT count(*) FROM api_keys"))
            upgrade = await Command.start(new, "db", "upgrade", settings=settings)
            assert "lock timeout" in await upgrade.complains()
            await asked.goes_on(CLIENTS)  # nobody else waits behind it
        assert await upgrade.output() == f"upgraded from {SCHEMA_REVISION} to {NEXT_REVISION}\n"
        await asked.goes_on(CLIENTS)
        await replace(replicas[0], PRESENT, envoy)
        await replace(replicas[1], new, envoy)


@asynccontextmanager
async def upgrading(
    code: Path, settings: Mapping[str, object], envoy_binary: str, home: Path
) -> AsyncIterator[tuple[Sequence[Replica], Envoy, Traffic]]:
    """Two replicas of that code on its own schema, under traffic. At the end, however much has
    changed: no request has failed, all are on record, and the log verifies."""
    async with database(settings) as engine:
        await upgrade_to(engine, newest_revision(code))
    asking = await Command.start(code, *CREATE_KEY, settings=settings)
    secret = json.loads(await asking.output())["secret"]
    async with (
        workers_of(1) as workers,
        replicas_of(2, home, workers, code=code, **settings) as replicas,
        running_envoy(envoy_binary, [each.port for each in replicas], home) as envoy,
    ):
        async with traffic(envoy.url, secret, WHOLE, clients=CLIENTS) as asked:
            await asked.goes_on(CLIENTS)
            yield replicas, envoy, asked
        assert asked.failed == {}
        assert await asyncio.gather(*(replica.stop() for replica in replicas)) == [0, 0]
    async with database(settings) as engine:
        by_outcome = await outcomes(engine, TENANT, asked.completed)
    assert by_outcome == {"completed": sorted(asked.completed)}
    await (await Command.start(PRESENT, "audit", "verify", settings=settings)).output()


@asynccontextmanager
async def database(settings: Mapping[str, object]) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(str(settings["database_url"]))
    try:
        yield engine
    finally:
        await engine.dispose()


async def replace(replica: Replica, code: Path, envoy: Envoy) -> None:
    assert await replica.stop() == 0
    await replica.start(code)
    await envoy.sends_to_all()
