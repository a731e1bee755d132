import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.load import Load, LoadGenerator, Result
from bench.nginx import find_nginx, relay
from bench.processes import child, cpu_seconds, family, python_module, read_line, resident_mib
from bench.upstream import Worker


@asynccontextmanager
async def serving(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def generator() -> AsyncIterator[LoadGenerator]:
    generator = LoadGenerator()
    yield generator
    generator.close()


async def apply(generator: LoadGenerator, port: int, scenario: str, requests: int = 20) -> Result:
    return await generator.apply(
        Load(scenario, port, gateway=False, api_key="none", connections=4, requests=requests)
    )


class Hanging(asyncio.Protocol):
    """Ends the connection in the middle of an answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nda")
        self._transport.close()


@pytest.mark.parametrize("scenario", ["unary", "stream", "large"])
async def test_every_answer_is_counted_and_checked(scenario: str, generator: LoadGenerator) -> None:
    async with serving(Worker) as port:
        for _ in range(2):  # on the same connections
            result = await apply(generator, port, scenario)
            assert len(result.seconds) == len(result.first_byte_seconds) == 20
            assert result.faults == []


async def test_no_text_is_asked_twice(generator: LoadGenerator) -> None:
    asked: list[bytes] = []

    class Noting(Worker):
        def data_received(self, data: bytes) -> None:
            asked.append(data)
            super().data_received(data)

    async with serving(Noting) as port:
        for _ in range(2):
            assert (await apply(generator, port, "unary")).faults == []
    assert len(set(asked)) == len(asked) == 40


async def test_an_answer_that_breaks_off_is_a_fault(generator: LoadGenerator) -> None:
    async with serving(Hanging) as port:
        result = await apply(generator, port, "unary")
    assert result.seconds == []
    assert "before the answer's end" in result.faults[0]


async def test_nginx_relays_what_the_worker_says(tmp_path: Path, generator: LoadGenerator) -> None:
    async with child(*python_module("bench.upstream")) as worker:
        worker_port = int(await read_line(worker, "the worker"))
        async with relay(find_nginx(None), worker_port, tmp_path) as (port, pid):
            for scenario in ("unary", "stream", "large"):
                result = await apply(generator, port, scenario)
                assert len(result.seconds) == 20
                assert result.faults == []
            master_and_worker = family(pid)
    assert len(master_and_worker) == 2


async def test_a_process_is_weighed_from_outside() -> None:
    burn = "print(sum(range(3_000_000)), flush=True); input()"
    async with child(sys.executable, "-c", burn) as process:
        await read_line(process, "the sum")
        assert process.pid in family(os.getpid())
        assert cpu_seconds([process.pid]) > 0
        assert resident_mib([process.pid]) > 0
