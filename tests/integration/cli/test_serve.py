"""`gateway serve`, as an operator and an orchestrator meet it."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import aiohttp
import pytest
from click.testing import CliRunner, Result

from app.cli.serve import serve
from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import CHAT, HELLO, PEPPER
from tests.support.raw_client import connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import Serving, serving

ENDLESS = ["word "] * 10_000
WITHIN_SECONDS = 60.0  # only spent on failure


def asked() -> dict[str, object]:
    return {"model": "qwythos", "messages": HELLO, "stream": True}


async def status_of(served: Serving, path: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(served.url + path) as response:
        return response.status


async def until_not_ready(served: Serving) -> None:
    async def refused() -> int | None:
        status = await status_of(served, "/readyz")
        return status if status == 503 else None

    await eventually_found(refused, WITHIN_SECONDS, "503 of /readyz")


# -- what it refuses to start with

COMPLETE = {
    "database_url": "postgresql://u:p@127.0.0.1:1/x",
    "key_pepper": PEPPER,
    "workers": '["http://127.0.0.1:1"]',
}


def refused(monkeypatch: pytest.MonkeyPatch, *options: str, **settings: object) -> Result:
    for name, value in settings.items():
        monkeypatch.setenv(f"GATEWAY_{name.upper()}", str(value))
    result = CliRunner().invoke(serve, options)
    assert isinstance(result.exception, SystemExit), result.exception  # no traceback
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    return result


@pytest.mark.parametrize("missing", COMPLETE)
def test_a_missing_setting_is_one_line_that_names_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = refused(monkeypatch, **{k: v for k, v in COMPLETE.items() if k != missing})
    assert f"GATEWAY_{missing.upper()}: is not set" in result.stderr
    assert result.exit_code == 2


def test_an_unreachable_database_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = refused(monkeypatch, **COMPLETE)
    assert "the database does not answer" in result.stderr
    assert result.exit_code == 1


def test_a_database_that_is_not_migrated_is_one_line(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = refused(monkeypatch, **COMPLETE | {"database_url": empty_database_url})
    assert "run `gateway db upgrade`" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_taken_port_is_one_line(
    processes: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = COMPLETE | {"database_url": database_url, "port": port}
        result = refused(monkeypatch, "--processes", processes, **settings)
    assert f"GATEWAY_PORT: {port} on 127.0.0.1 is already in use" in result.stderr
    assert result.exit_code == 2


# -- how it ends


@pytest.mark.parametrize("stop", [Serving.terminate, Serving.interrupt])
async def test_with_nothing_running_it_ends_at_once_and_well(
    stop: Callable[[Serving], None], database_url: str, worker: ScriptedWorker
) -> None:
    async with serving(database_url, worker) as served, connected(served.port) as idle:
        await idle.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await idle.head()
        stop(served)  # the idle connection does not hold it up
        assert await served.exit_code() == 0


async def test_a_running_stream_is_finished_while_new_requests_are_sent_elsewhere(
    database_url: str, worker: ScriptedWorker, key: str
) -> None:
    refused = asyncio.Event()
    worker.answers(Answer(["word "] * 100, until=refused, until_after=10, pace_seconds=0.02))
    async with serving(database_url, worker) as served, connected(served.port) as client:
        await client.post(CHAT, key, asked())
        await client.head()
        served.terminate()
        await until_not_ready(served)
        async with connected(served.port) as other:
            await other.post(CHAT, key, asked())
            head = await other.head()
            assert head.status == 503
            assert head.headers["connection"] == "close"
            assert "retry-after" in head.headers
            assert (await other.body(head))["error"]["code"] == "server_shutting_down"
        assert await status_of(served, "/healthz") == 200
        refused.set()
        text = b"".join(await client.chunks())
        assert b'"error"' not in text
        assert text.endswith(b"data: [DONE]\n\n")
        assert await served.exit_code() == 0


async def test_when_the_drain_is_over_streams_end_with_an_error_and_it_ends_well(
    database_url: str, worker: ScriptedWorker, key: str
) -> None:
    worker.answers(Answer(ENDLESS, pace_seconds=0.02))
    async with (
        serving(database_url, worker, drain_seconds=0.3) as served,
        connected(served.port) as client,
    ):
        await client.post(CHAT, key, asked())
        await client.head()
        served.terminate()
        text = b"".join(await client.chunks())
        assert b"server_shutting_down" in text
        assert text.endswith(b"data: [DONE]\n\n")
        assert await served.exit_code() == 0


async def test_a_second_signal_does_not_wait_for_the_streams(
    database_url: str, worker: ScriptedWorker, key: str
) -> None:
    worker.answers(Answer(ENDLESS, pace_seconds=0.02))
    async with (
        serving(database_url, worker, "--processes", "2") as served,
        connected(served.port) as client,
    ):
        await client.post(CHAT, key, asked())
        await client.head()
        served.terminate()
        await until_not_ready(served)
        served.terminate()
        assert await served.exit_code() == 0


# -- several processes


async def test_processes_share_the_port_and_count_together_and_drain(
    database_url: str, worker: ScriptedWorker, key: str
) -> None:
    worker.answers(*[Answer()] * 12)
    async with serving(database_url, worker, "--processes", "2") as served:
        assert len(await children(served)) == 2
        for _ in range(12):
            async with connected(served.port) as client:
                await client.post(CHAT, key, asked())
                assert (await client.head()).status == 200
                await client.chunks()
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{served.url}/metrics") as response,
        ):
            lines = (await response.text()).splitlines()
        counted = [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("gateway_requests_total{") and 'status="200"' in line
        ]
        assert sum(counted) >= 12
        worker.answers(Answer(["word "] * 100, pace_seconds=0.02))
        async with connected(served.port) as client:
            await client.post(CHAT, key, asked())
            await client.head()
            served.terminate()
            text = b"".join(await client.chunks())
        assert text.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in text
        assert await served.exit_code() == 0


async def test_a_dead_process_is_replaced(database_url: str, worker: ScriptedWorker) -> None:
    async with serving(database_url, worker, "--processes", "2") as served:
        before = await children(served)
        # The other one goes on serving meanwhile.
        os.kill(before[0], signal.SIGKILL)

        async def replaced() -> list[int] | None:
            now = await children(served)
            return now if len(now) == 2 and before[0] not in now else None

        await eventually_found(replaced, WITHIN_SECONDS, "a new process")
        assert await status_of(served, "/healthz") == 200
        served.terminate()
        assert await served.exit_code() == 0


async def test_without_its_parent_no_process_keeps_the_port(
    database_url: str, worker: ScriptedWorker
) -> None:
    async with serving(database_url, worker, "--processes", "2") as served:
        served.process.kill()
        await served.exit_code()

        async def closed() -> bool | None:
            try:
                async with connected(served.port):
                    return None
            except ConnectionRefusedError:
                return True

        await eventually_found(closed, WITHIN_SECONDS, "a closed port")


async def children(served: Serving) -> list[int]:
    """The server processes, as Linux tells them from multiprocessing's own."""
    found = await asyncio.to_thread(_children, served.process.pid)
    return sorted(found)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        pids = [int(child) for child in file.read().split()]
    return [child for child in pids if b"spawn_main" in _command(child)]


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
