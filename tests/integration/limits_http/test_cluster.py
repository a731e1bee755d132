"""A gateway whose limits are in a Redis Cluster."""

from redis.crc import key_slot

from tests.integration.limits_http.conftest import PATIENT_SECONDS
from tests.integration.limits_http.limiting import (
    NOTHING_HELD,
    PREFIX,
    WITHIN_SECONDS,
    Held,
    held,
    issue,
    limit_tenant,
    limiter_of,
)
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, StartGateway
from tests.support.redis_cluster import RedisCluster
from tests.support.scripted_worker import ScriptedWorker

TENANTS = ("a", "b", "c")  # each on a node of its own
ENDLESS = Answer(["word "], breaks=Break(End.HANG, 3))  # behind its word


def held_in(cluster: RedisCluster) -> Held:
    of_nodes = []
    for node in cluster.nodes:
        with node.client() as client:
            of_nodes.append(held(client))
    return Held(
        sum(each.leases for each in of_nodes),
        sum(each.reservations for each in of_nodes),
        sum(each.tokens for each in of_nodes),
    )


async def test_limits_hold_in_a_cluster(
    start_gateway: StartGateway, worker: ScriptedWorker, redis_cluster: RedisCluster
) -> None:
    """Two replicas, tenants in slots of different nodes, keys and tenants with limits of all
    kinds."""
    owners = {redis_cluster.owner_of(f"{PREFIX}{{{tenant}}}:tenant").port for tenant in TENANTS}
    assert len(owners) == len({key_slot(tenant.encode()) for tenant in TENANTS}) == 3
    gateways = [
        await start_gateway(
            worker,
            redis_url=redis_cluster.url,
            redis_cluster=True,
            redis_timeout_seconds=PATIENT_SECONDS,
        )
        for _ in range(2)
    ]
    keys = []
    for tenant in TENANTS:
        await limit_tenant(gateways[0], tenant, tokens_per_day=10**6, requests_per_minute=3)
        issued = await issue(gateways[0], tenant=tenant, concurrency=2, tokens_per_minute=10**6)
        keys.append(issued.secret)
    for key in keys:
        worker.answers(ENDLESS)
        async with gateways[0].raw() as first, gateways[1].raw() as second:
            for client in (first, second):
                asked = {"model": "qwythos", "messages": HELLO, "stream": True}
                await client.post(CHAT, key, asked)
                assert (await client.head()).status == 200
            assert held_in(redis_cluster).leases == 4  # of the key and of its tenant
            response = await gateways[0].chat(key=key)
            assert "concurrent requests" in response.error["message"]
        await eventually(
            lambda: held_in(redis_cluster) == NOTHING_HELD, WITHIN_SECONDS, "nothing is held"
        )
        worker.answers(Answer())
        assert (await gateways[1].chat(key=key)).status == 200
        response = await gateways[0].chat(key=key)
        assert "requests per min" in response.error["message"]
    assert not any(limiter_of(gateway).degraded for gateway in gateways)
