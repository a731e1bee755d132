"""Replicas behind a real Envoy, and workers behind a replica, end while clients ask."""

import asyncio
import json
from pathlib import Path

import aiohttp
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.conditions import eventually_found
from tests.support.envoy import running_envoy
from tests.support.replica import Replica
from tests.support.rolling import (
    WHOLE,
    WITHIN_SECONDS,
    Key,
    has_begun_one,
    is_busy,
    no_leases,
    outcomes,
)
from tests.support.rolling import replicas as replicas_of
from tests.support.rolling import workers as workers_of
from tests.support.traffic import traffic

CLIENTS = 12
GRACE_SECONDS = 1.5  # longer than Envoy's checks are apart
TOKEN = "an-admin-token"


async def test_a_rolling_restart_fails_no_request_and_cuts_no_stream(
    tmp_path: Path,
    database_url: str,
    newest_redis_url: str,
    engine: AsyncEngine,
    api_key: Key,
    envoy_binary: str,
) -> None:
    shared = {"database_url": database_url, "redis_url": newest_redis_url}
    async with (
        workers_of(2) as workers,
        replicas_of(3, tmp_path, workers, **shared, drain_grace_seconds=GRACE_SECONDS) as replicas,
    ):
        ports = [replica.port for replica in replicas]
        async with (
            running_envoy(envoy_binary, ports, tmp_path) as envoy,
            traffic(envoy.url, api_key.secret, WHOLE, clients=CLIENTS) as asked,
        ):
            for replica in replicas:
                await is_busy(replica)
                assert await replica.stop() == 0
                await replica.start()
                await envoy.sends_to_all()
            for replica in replicas:
                await is_busy(replica)
        assert asked.failed == {}
        await no_leases(newest_redis_url)
        assert await asyncio.gather(*(replica.stop() for replica in replicas)) == [0, 0, 0]
    assert await outcomes(engine, api_key.tenant, asked.completed) == {
        "completed": sorted(asked.completed)
    }


async def test_a_killed_replica_takes_only_its_own_requests_with_it(
    tmp_path: Path,
    database_url: str,
    newest_redis_url: str,
    engine: AsyncEngine,
    api_key: Key,
    envoy_binary: str,
) -> None:
    shared = {"database_url": database_url, "redis_url": newest_redis_url}
    async with (
        workers_of(1) as workers,
        replicas_of(
            2, tmp_path, workers, **shared, drain_grace_seconds=0, lease_seconds=2
        ) as replicas,
    ):
        ports = [replica.port for replica in replicas]
        async with (
            running_envoy(envoy_binary, ports, tmp_path) as envoy,
            traffic(envoy.url, api_key.secret, WHOLE, clients=CLIENTS) as asked,
        ):
            await has_begun_one(engine, replicas[0])
            await replicas[0].kill()
            await asked.goes_on(CLIENTS)
            await replicas[0].start()
            await envoy.sends_to_all()
            await is_busy(replicas[0])
        streams = {name for name in asked.failed if name.startswith("req_")}
        by_outcome = await outcomes(engine, api_key.tenant, [*asked.completed, *streams], "crashed")
        await no_leases(newest_redis_url)
    completed = set(by_outcome.pop("completed"))
    # Of an answer that was on record when the kill came, its client may not have seen the end.
    unheard = completed.difference(asked.completed)
    assert completed.issuperset(asked.completed)
    assert streams <= unheard.union(by_outcome.pop("crashed"))
    assert by_outcome == {}
    assert len(asked.failed) <= CLIENTS
    assert len(unheard) <= len(asked.failed)
    # Of an answer that had not begun nothing but an error is seen, and no id.
    untold = [why for name, why in asked.failed.items() if name not in streams]
    assert all(why.startswith("edge_503: ") for why in untold), untold


async def test_a_rolling_restart_of_workers_fails_no_request(
    tmp_path: Path, database_url: str, engine: AsyncEngine, api_key: Key
) -> None:
    listed = tmp_path / "workers.json"
    settings = {
        "database_url": database_url,
        "drain_grace_seconds": 0,
        "workers_file": listed,
        "workers_reload_seconds": 0.1,
        "admin_token": TOKEN,
    }
    async with workers_of(2) as workers:
        listed.write_text(json.dumps([worker.url for worker in workers]), "utf-8")
        async with replicas_of(1, tmp_path, [], **settings) as (replica,):
            async with traffic(replica.url, api_key.secret, WHOLE, clients=CLIENTS) as asked:
                for worker in workers:
                    await has_workers(replica, {each.url: "ready" for each in workers})
                    others = [each.url for each in workers if each is not worker]
                    listed.write_text(json.dumps(others), "utf-8")
                    await has_workers(replica, dict.fromkeys(others, "ready"))
                    await worker.kill()
                    await worker.start()
                    listed.write_text(json.dumps([each.url for each in workers]), "utf-8")
                await has_workers(replica, {each.url: "ready" for each in workers})
            assert await replica.stop() == 0
    assert asked.failed == {}
    by_outcome = await outcomes(engine, api_key.tenant, asked.completed)
    assert by_outcome == {"completed": sorted(asked.completed)}


async def has_workers(replica: Replica, states: dict[str, str]) -> None:
    """Returns once the pool is that, by URL."""
    wanted = {url.removeprefix("http://"): state for url, state in states.items()}
    headers = {"authorization": f"Bearer {TOKEN}"}

    async def found() -> bool | None:
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{replica.url}/admin/v1/workers") as response,
        ):
            if response.status == 429:  # after a minute of questions, on a slow machine
                return None
            listed = (await response.json())["data"]
        return True if {each["name"]: each["state"] for each in listed} == wanted else None

    # The admin API takes 60 requests a minute.
    await eventually_found(found, WITHIN_SECONDS, f"the workers are {wanted}", every=1.0)
