"""A real Redis Cluster of three masters, each with a third of the slots, and no replicas."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.support.redis_server import VALKEY, RedisServer, free_port, running_server

NODES = 3
READY_SECONDS = 30.0  # it takes some 2; only spent on failure
POLL_SECONDS = 0.05
# Before a silent node counts as failed. Long enough for a loaded machine.
NODE_TIMEOUT_MILLISECONDS = 3000


@dataclass(frozen=True)
class RedisCluster:
    """`nodes[i]` has slots i/3 to (i + 1)/3. While one is down the others go on serving theirs: a
    cluster that then refuses everything is, to a client, like one server that is gone."""

    nodes: tuple[RedisServer, ...]

    @property
    def url(self) -> str:
        """Of the first node; it tells where the others are."""
        return self.nodes[0].url

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def owner_of(self, key: str) -> RedisServer:
        """The node that has the key's slot: to be killed, for example."""
        return self.nodes[key_slot(key.encode()) * NODES // REDIS_CLUSTER_HASH_SLOTS]

    def heal(self) -> None:
        """Starts what was killed, wakes what was stopped, forgets all keys; returns when every node
        agrees that the cluster is whole."""
        for node in self.nodes:
            if node.is_running():
                node.cont()
            else:
                node.start()  # it knows its slots and the others
        _wait_until(self._is_whole)
        for node in self.nodes:
            _execute(node, "FLUSHALL")

    def _is_whole(self) -> bool:
        return all(map(_sees_all, self.nodes))


@contextmanager
def running_cluster() -> Iterator[RedisCluster]:
    """Ready to serve; gone with the block."""
    bus_ports = [free_port() for _ in range(NODES)]  # else ports plus 10,000, which may be taken
    with ExitStack() as stack:
        nodes = tuple(
            stack.enter_context(running_server(VALKEY, *_options(bus_port)))
            for bus_port in bus_ports
        )
        for number, node in enumerate(nodes):
            _execute(
                node, "CLUSTER ADDSLOTSRANGE", _first_slot(number), _first_slot(number + 1) - 1
            )
            _execute(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            for other, bus_port in zip(nodes[:number], bus_ports, strict=False):
                _execute(node, "CLUSTER MEET", "127.0.0.1", other.port, bus_port)
        cluster = RedisCluster(nodes)
        cluster.heal()
        yield cluster


def _options(bus_port: int) -> tuple[str, ...]:
    own = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-node-timeout": str(NODE_TIMEOUT_MILLISECONDS),
        "cluster-require-full-coverage": "no",
    }
    return tuple(part for name in own for part in (f"--{name}", own[name]))


def _first_slot(number: int) -> int:
    return math.ceil(number * REDIS_CLUSTER_HASH_SLOTS / NODES)


def _sees_all(node: RedisServer) -> bool:
    told: dict[str, str] = _execute(node, "CLUSTER INFO")
    whole = {
        "cluster_state": "ok",
        "cluster_slots_ok": str(REDIS_CLUSTER_HASH_SLOTS),
        "cluster_size": str(NODES),
    }
    return told.items() >= whole.items()


def _execute(node: RedisServer, *command: str | int) -> Any:
    with node.client() as client:
        return client.execute_command(*command)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the nodes do not agree on a whole cluster"
        time.sleep(POLL_SECONDS)
