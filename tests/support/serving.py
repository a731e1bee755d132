"""`gateway serve` as a process of its own: its signals, its exit code, what it prints."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.support.gateway import PEPPER
from tests.support.redis_server import free_port
from tests.support.scripted_worker import ScriptedWorker

READY_SECONDS = 180.0  # for several processes on a busy machine; only spent on failure
EXIT_SECONDS = 60.0  # likewise
POLL_SECONDS = 0.05

GATEWAY = Path(sys.executable).with_name("gateway")

Settings = dict[str, object]


@dataclass(frozen=True)
class Serving:
    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def terminate(self) -> None:
        self.process.terminate()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    async def exit_code(self) -> int:
        async with asyncio.timeout(EXIT_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    database_url: str,
    worker: ScriptedWorker,
    *options: str,
    program: Sequence[str] = (str(GATEWAY),),
    **settings: object,
) -> AsyncIterator[Serving]:
    """Yields once it is ready; kills what a test has left running. `program` is what `serve` and
    the options are given to."""
    port = free_port()
    values: Settings = {
        "database_url": database_url,
        "key_pepper": PEPPER,
        "workers": json.dumps([worker.settings()]),
        "port": port,
        "drain_grace_seconds": 0,  # nothing balances the load of most tests
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryDirectory() as spool:
        values["audit_directory"] = spool
        process = await _start([*program, "serve", *options], values | settings, out.fileno())
        served = Serving(process, port)
        try:
            await _until_ready(served)
            yield served
        finally:
            await _end(process)


async def _start(
    command: Sequence[str], settings: Settings, out: int
) -> asyncio.subprocess.Process:
    given = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.environ["PATH"]} | given,
        stdout=out,
        stderr=out,
    )


async def _until_ready(served: Serving) -> None:
    async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
        while served.process.returncode is None:
            with suppress(aiohttp.ClientError):  # it does not listen yet
                async with http.get(f"{served.url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"it ended with {served.process.returncode} instead of being ready")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
