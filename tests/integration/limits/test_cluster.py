"""Limits in a Redis Cluster of three nodes: a tenant lives on one of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.crc import key_slot

from app.limits.enforcer import LimitsUnavailable
from app.limits.redis_lane import RedisLane
from app.limits.shared import SharedLimits
from app.limits.subjects import Decision, Demand, Spending, Subject
from tests.integration.limits.conftest import PREFIX, Stored
from tests.support.limited import demand, key, tenant
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_moments import running_lane, script

ECHO = script("return ARGV[1]")


@pytest.fixture
async def lane(redis_cluster: RedisCluster) -> AsyncIterator[RedisLane]:
    async with running_lane(redis_cluster.url, cluster=True) as lane:
        yield lane


@pytest.fixture
def limits(lane: RedisLane) -> SharedLimits:
    return SharedLimits(lane, prefix=PREFIX, lease_seconds=30, recount_seconds=30)


def tenant_on(cluster: RedisCluster, node: int) -> str:
    return next(
        name
        for name in map(str, range(100))
        if cluster.owner_of(f"{PREFIX}{{{name}}}:tenant") is cluster.nodes[node]
    )


def subjects_of(name: str) -> tuple[Subject, Subject]:
    return (
        key("key_a", name, requests_per_minute=10, tokens_per_minute=1000, tokens_per_day=5000),
        tenant(name, tokens_per_minute=2000, concurrency=3, tokens_per_month=9000),
    )


async def count_budgets(limits: SharedLimits, subjects: tuple[Subject, ...]) -> None:
    for subject in subjects:
        began = await limits.begin_recount(subject)
        assert began is not None
        assert await limits.finish_recount(subject, began, 0, 0)


async def admitted(limits: SharedLimits, asked: Demand) -> bool:
    decision = await limits.admit(asked)
    assert isinstance(decision, Decision)
    return decision.refusal is None


async def test_a_tenant_and_its_keys_share_a_slot_and_tenants_do_not(
    limits: SharedLimits, redis_cluster: RedisCluster
) -> None:
    for node in range(3):
        name = tenant_on(redis_cluster, node)
        subjects = subjects_of(name)
        slots = {key_slot(Stored.name(subject).encode()) for subject in subjects}
        assert len(slots) == 1
        await count_budgets(limits, subjects)
        one, other = demand(*subjects, tokens=300), demand(*subjects, tokens=300)
        assert await admitted(limits, one)
        assert await admitted(limits, other)
        for subject in subjects:
            await limits.renew(subject, {one.request_id: 300, "req_lost": 5})
        settled = await limits.settle(one, Spending(100, 10))
        assert settled.due == subjects
        with redis_cluster.nodes[node].client() as client:
            stored = Stored(client)
            for subject in subjects:
                assert stored.number(subject, "ds") == 100
                assert stored.number(subject, "h") == 305
                assert stored.leases(subject).keys() == {other.request_id, "req_lost"}


async def test_calls_that_come_together_each_get_their_own_reply(
    lane: RedisLane, redis_cluster: RedisCluster
) -> None:
    async def echo(text: str) -> str:
        reply: bytes = await lane.call(ECHO, (f"key {text}",), (text,))
        return reply.decode()

    texts = [str(number) for number in range(300)]
    for _ in range(2):
        assert await asyncio.gather(*(echo(text) for text in texts)) == texts
    for node in redis_cluster.nodes:
        with node.client() as client:
            assert len(client.client_list(_type="normal")) < 20


async def test_many_at_once_get_the_limit_and_not_one_more(
    limits: SharedLimits, redis_cluster: RedisCluster
) -> None:
    subject = key("key_a", tenant_on(redis_cluster, 1), requests_per_minute=6)
    passed = await asyncio.gather(*(admitted(limits, demand(subject)) for _ in range(200)))
    assert passed.count(True) == 6  # the next one in 10 s


async def test_calls_of_a_tenant_arrive_in_their_order(lane: RedisLane) -> None:
    push = script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
    calls = (lane.call(push, ("list",), (number,)) for number in range(100))
    assert await asyncio.gather(*calls) == list(range(1, 101))


async def test_a_node_that_is_gone_takes_its_tenants_along_and_no_others(
    limits: SharedLimits, redis_cluster: RedisCluster
) -> None:
    tenants = [tenant_on(redis_cluster, node) for node in range(3)]
    keys = [key("key_a", name, requests_per_minute=1000) for name in tenants]

    async def ask_all() -> list[Any]:
        calls = (limits.admit(demand(keys[number % 3])) for number in range(30))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(answer, Decision) for answer in await ask_all())
    redis_cluster.nodes[1].kill()
    for _ in range(3):
        answers = await ask_all()
        assert all(isinstance(answer, LimitsUnavailable) for answer in answers[1::3])
        assert all(isinstance(answer, Decision) for answer in answers[0::3] + answers[2::3])
    redis_cluster.heal()
    assert all(isinstance(answer, Decision) for answer in await ask_all())


async def test_a_cluster_whose_first_node_is_gone_is_found_through_another(
    limits: SharedLimits, redis_cluster: RedisCluster
) -> None:
    subject = key("key_a", tenant_on(redis_cluster, 2), requests_per_minute=1000)
    assert await admitted(limits, demand(subject))
    redis_cluster.nodes[0].kill()
    for _ in range(3):
        assert await admitted(limits, demand(subject))


async def test_scripts_are_taught_to_every_node(
    limits: SharedLimits, redis_cluster: RedisCluster
) -> None:
    for _ in range(2):
        for node in range(3):
            subject = key("key_a", tenant_on(redis_cluster, node), requests_per_minute=1000)
            assert await admitted(limits, demand(subject))
            with redis_cluster.nodes[node].client() as client:
                client.script_flush()


async def test_a_hung_node_keeps_nobody(redis_cluster: RedisCluster) -> None:
    async with running_lane(redis_cluster.url, cluster=True, timeout_seconds=1.0) as lane:
        await lane.open()
        redis_cluster.nodes[2].stop()
        limits = SharedLimits(lane, prefix=PREFIX, lease_seconds=30, recount_seconds=30)
        subject = key("key_a", tenant_on(redis_cluster, 2), requests_per_minute=1000)
        calls = (limits.admit(demand(subject)) for _ in range(30))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, LimitsUnavailable) for answer in answers)
        redis_cluster.nodes[2].cont()
        decision = await limits.admit(demand(subject))
        assert isinstance(decision, Decision)
