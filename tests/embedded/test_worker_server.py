"""`gateway embedded-worker`: the small model in a container of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from click.testing import CliRunner

from app.cli.embedded_worker import embedded_worker_command
from app.embedded.llama_process import LlamaProcess, Place
from app.embedded.model import choose_model
from tests.support.conditions import eventually_found

GATEWAY = Path(sys.executable).with_name("gateway")
START_SECONDS = 120.0  # all of these are only spent on failure
EXIT_SECONDS = 120.0


@asynccontextmanager
async def worker(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yields once it answers."""
    process = await asyncio.create_subprocess_exec(
        GATEWAY, "embedded-worker", "--port", str(port), env={}
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:

            async def well() -> bool | None:
                assert process.returncode is None, "it ended"
                try:
                    async with http.get("/health") as response:
                        return response.status == 200 or None
                except aiohttp.ClientError:
                    return None

            await eventually_found(well, START_SECONDS, "an answer")
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def exit_code(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(EXIT_SECONDS):
        return await process.wait()


async def test_it_answers_without_a_key_and_ends_when_it_is_told_to(unused_port: int) -> None:
    async with worker(unused_port) as process:
        url = f"http://127.0.0.1:{unused_port}/v1/models"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert response.status == 200
        [server] = psutil.Process(process.pid).children()
        process.terminate()
        assert await exit_code(process) == 0
        assert not server.is_running()


async def test_it_ends_with_the_model_server_so_that_both_are_started_again(
    unused_port: int,
) -> None:
    async with worker(unused_port) as process:
        [server] = psutil.Process(process.pid).children()
        server.send_signal(signal.SIGKILL)
        assert await exit_code(process) == 1


def test_a_model_that_cannot_be_served_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_EMBEDDED_MODEL", "/dev/null")
    result = CliRunner().invoke(embedded_worker_command)
    assert result.exit_code == 1
    assert result.stderr == "error: GATEWAY_EMBEDDED_MODEL: /dev/null is not a GGUF file\n"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("10.0.0.5", "http://10.0.0.5:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_it_is_waited_for_where_it_listens(host: str, url: str) -> None:
    assert LlamaProcess(choose_model(None), Place(host, 8000, api_key=""), None).url == url
