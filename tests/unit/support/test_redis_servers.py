"""The servers that other tests rely on."""

import pytest
from redis import Redis, TimeoutError
from redis.cluster import RedisCluster as ClusterClient

from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer

HUNG_SECONDS = 0.05


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_finds_no_keys(redis_url: str, time: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left-behind", time)


def test_a_stopped_server_hangs_and_goes_on(redis_server: RedisServer) -> None:
    redis_server.stop()
    with (
        Redis.from_url(redis_server.url, socket_timeout=HUNG_SECONDS, retry=None) as client,
        pytest.raises(TimeoutError),
    ):
        client.ping()
    redis_server.cont()
    with redis_server.client() as client:
        assert client.ping()


@pytest.mark.parametrize("before", ["stop", "kill", "cont"])
def test_a_restarted_server_has_forgotten_everything(
    redis_server: RedisServer, before: str
) -> None:
    with redis_server.client() as client:
        client.set("key", "value")
    pid = redis_server.pid
    getattr(redis_server, before)()
    redis_server.restart()
    with redis_server.client() as client:
        assert client.dbsize() == 0
    assert redis_server.pid != pid


def test_a_cluster_tells_who_has_a_key(redis_cluster: RedisCluster) -> None:
    keys = [f"request:{{key-{number}}}" for number in range(20)]
    with ClusterClient.from_url(redis_cluster.url) as client:
        for key in keys:
            client.set(key, "value")
    for key in keys:
        with redis_cluster.owner_of(key).client() as client:
            assert client.get(key) == "value"


def test_a_cluster_serves_the_rest_without_a_node_until_it_is_whole_again(
    redis_cluster: RedisCluster,
) -> None:
    dead, alive, _ = redis_cluster.nodes
    key = next(key for key in map(str, range(100)) if redis_cluster.owner_of(key) is alive)
    dead.kill()
    with alive.client() as client:
        client.set(key, "value")
    redis_cluster.heal()
    for node in redis_cluster.nodes:
        with node.client() as client:
            assert client.dbsize() == 0
