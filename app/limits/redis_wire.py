"""Commands to Redis and their replies, on connections of redis-py.

To one server a batch is one write, packed by hiredis: the library's own way costs twice the CPU. A
cluster is left to the library, which knows who has which slot.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError

# What asking can raise.
AWAY = (RedisError, RedisClusterException, OSError, TimeoutError)

FIRST_KEY = 3  # of EVAL and EVALSHA

URL_FORM = (
    "must be a URL, for example redis://:password@host:6379/0 (rediss:// for TLS), with special "
    "characters of the password percent-encoded, and options that redis-py knows"
)

Argument = str | int
Command = tuple[Argument, ...]
Reply = Any  # an integer, or a list of them


class Wire(Protocol):
    async def open(self) -> None:
        """Connects, so that the first exchange need not."""

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies in order; an error that one command met stands in its place. Raises one of
        AWAY where the server does not answer. A cancellation costs the connection."""

    async def close(self) -> None: ...


def make_wire(url: str, *, cluster: bool, connect_seconds: float) -> Wire:
    """Not connected yet. Raises ValueError for what is no URL of a Redis, in words that repeat
    nothing of it: it has a password.

    It waits for replies without end: how long a reply may take, its user says.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": connect_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if cluster:
            return ClusterWire(RedisCluster.from_url(url, **options))
        client = Redis.from_url(url, **options)
        # So that an unknown option shows now.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # the library's
    except (TypeError, ValueError):
        raise ValueError(URL_FORM) from None
    return ServerWire(client)


class ServerWire:
    """One connection to one server."""

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self._connection: AbstractConnection | None = None
        # Two at a time would read each other's replies, those of the handshake among them.
        self._in_use = asyncio.Lock()

    async def open(self) -> None:
        async with self._in_use:
            connection = await self._connected()
            await connection.connect()  # type: ignore[no-untyped-call]  # the library's

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        # The stub of `pack_command` allows a tuple of one.
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # as said
        async with self._in_use:
            return await self._send(packed)

    async def _send(self, packed: list[bytes]) -> list[Reply]:
        connection = await self._connected()
        kept = connection.is_connected
        try:
            return await _exchange(connection, packed)
        except ConnectionLost:
            # Closed in its sleep, by the server or by what stands between. Every script may be
            # asked again.
            if not kept:
                raise
        return await _exchange(connection, packed)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect()
        await self._client.aclose()

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            pool = self._client.connection_pool
            self._connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # the library's
        return self._connection


class ClusterWire:
    """The library's connections to all nodes."""

    def __init__(self, client: "RedisCluster") -> None:
        self._client = client

    async def open(self) -> None:
        await self._client.initialize()

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """What a node that is gone does not answer is asked once more, of whoever has its slots by
        then; the other nodes' replies stand."""
        replies = await self._ask_nodes(commands)
        lost = [i for i, reply in enumerate(replies) if isinstance(reply, ConnectionLost)]
        if lost:
            await self._client.aclose()  # opened again by the next command, it looks for all nodes
            again = await self._ask_nodes([commands[i] for i in lost])
            for i, reply in zip(lost, again, strict=True):
                replies[i] = reply
        return replies

    async def _ask_nodes(self, commands: Sequence[Command]) -> list[Reply]:
        """One write to each node, so that calls reach it in their order."""
        await self._client.initialize()
        parts: dict[str, list[int]] = defaultdict(list)
        for i, command in enumerate(commands):
            node = self._client.get_node_from_key(str(command[FIRST_KEY]))
            parts[node.name if node is not None else ""].append(i)
        replies: list[Reply] = [None] * len(commands)

        async def ask(part: list[int]) -> None:
            pipeline = self._client.pipeline()
            for i in part:
                pipeline.execute_command(*commands[i])
            try:
                answers = await pipeline.execute(raise_on_error=False)
            except ConnectionLost as error:
                answers = [error] * len(part)
            for i, answer in zip(part, answers, strict=True):
                replies[i] = answer

        await asyncio.gather(*map(ask, parts.values()))
        return replies

    async def close(self) -> None:
        await self._client.aclose()


async def _exchange(connection: AbstractConnection, packed: list[bytes]) -> list[Reply]:
    await connection.send_packed_command(packed, check_health=False)
    replies: list[Reply] = []
    for _ in packed:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    if any(isinstance(reply, ReadOnlyError) for reply in replies):
        await connection.disconnect()  # it was the primary; its name may lead to the new one
    return replies
