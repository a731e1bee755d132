"""The load generator: a process of its own, so that its work is nobody else's.

`python -m bench.load` reads one load a line as JSON, applies it, and prints what came of it.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count

import orjson
import uvloop

from bench.answers import fault_of, thorough_fault_of
from bench.client import Answer, Connection
from bench.scenarios import NO_NUMBER, SCENARIOS, Scenario, request_body

MAX_FAULTS = 5  # kept of one load; the first says it all


@dataclass(frozen=True)
class Load:
    """`connections` of them ask, each again once it has its answer: until `requests` were asked
    altogether, or for `seconds`."""

    scenario: str
    port: int
    gateway: bool  # or nginx: the answers differ
    api_key: str
    connections: int
    requests: int = sys.maxsize
    seconds: float = float(sys.maxsize)
    pause_seconds: float = 0.0  # of each connection, before it asks again
    spread_seconds: float = 0.0  # over which the connections begin, evenly


@dataclass
class Result:
    wall_seconds: float = 0.0
    first_byte_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class LoadGenerator:
    """Keeps its connections from one load to the next."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Connection]] = {}
        self._numbers = count(time.time_ns())  # no other run has asked these texts

    async def apply(self, load: Load) -> Result:
        connections = [await self._connection(load.port) for _ in range(load.connections)]
        requests = _numbered(_request(load), self._numbers)
        result = Result()
        numbers = count()
        started_at = time.monotonic()
        async with asyncio.TaskGroup() as asking:
            for index, connection in enumerate(connections):
                delay = load.spread_seconds * index / load.connections
                until = started_at + load.seconds
                asking.create_task(
                    _ask_on(connection, delay, load, requests, numbers, until, result)
                )
        result.wall_seconds = time.monotonic() - started_at
        self._idle.setdefault(load.port, []).extend(connections)
        return result

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()

    async def _connection(self, port: int) -> Connection:
        idle = self._idle.setdefault(port, [])
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        return connection


async def _ask_on(
    connection: Connection,
    delay: float,
    load: Load,
    requests: Iterator[bytes],
    numbers: "count[int]",
    until: float,
    result: Result,
) -> None:
    scenario = SCENARIOS[load.scenario]
    if delay:
        await asyncio.sleep(delay)
    while (number := next(numbers)) < load.requests and time.monotonic() < until:
        try:
            answer = await connection.ask(next(requests))
        except (ConnectionError, TimeoutError) as error:
            result.faults.append(str(error))
            return
        result.first_byte_seconds.append(answer.first_byte_seconds)
        result.seconds.append(answer.seconds)
        _check(answer, scenario, load, result, thorough=number == 0)
        if connection.closed:
            result.faults.append("the connection was not kept alive")
            return
        if load.pause_seconds:
            await asyncio.sleep(load.pause_seconds)


def _check(
    answer: Answer, scenario: Scenario, load: Load, result: Result, *, thorough: bool
) -> None:
    check = thorough_fault_of if thorough else fault_of
    fault = check(scenario, answer.status, answer.body, gateway=load.gateway)
    if fault is not None:
        result.faults.append(fault)


def _numbered(request: bytes, numbers: Iterator[int]) -> Iterator[bytes]:
    before, after = request.split(NO_NUMBER.encode(), 1)
    width = len(NO_NUMBER)
    for number in numbers:
        yield b"%s%0*d%s" % (before, width, number % 10**width, after)


def _request(load: Load) -> bytes:
    body = request_body(SCENARIOS[load.scenario])
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"host: 127.0.0.1:%d\r\n"
        b"authorization: Bearer %s\r\n"
        b"user-agent: bench\r\n"
        b"content-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s"
    ) % (load.port, load.api_key.encode(), len(body), body)


async def work() -> None:
    """Until the input ends."""
    loop = asyncio.get_running_loop()
    generator = LoadGenerator()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        result = await generator.apply(Load(**orjson.loads(line)))
        result.faults = result.faults[:MAX_FAULTS]
        sys.stdout.buffer.write(orjson.dumps(asdict(result)) + b"\n")
        sys.stdout.buffer.flush()
    generator.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
