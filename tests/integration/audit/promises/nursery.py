"""Processes that serve as `gateway serve` does, and are there at once: forks of one that has
imported and compiled everything already.

    python -m tests.integration.audit.promises.nursery

An order is a line of JSON on its standard input: the environment of one process. It answers with
the process id.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

import aiohttp
import orjson

from app.cli import main
from app.rules.lexicon import shipped_lexicon
from app.rules.load import load
from app.settings import Settings
from tests.support.conditions import eventually, eventually_found

WITHIN_SECONDS = 120.0  # of a busy machine; only spent on failure


@dataclass(frozen=True)
class Forked:
    pid: int
    url: str

    async def kill(self) -> None:
        """Returns once it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        await eventually(lambda: not is_there(self.pid), WITHIN_SECONDS, "it is gone")

    async def until_ready(self) -> None:
        await eventually_found(self._ready, WITHIN_SECONDS, "it is ready")

    async def _ready(self) -> bool | None:
        assert is_there(self.pid), "it ended instead of being ready"
        with suppress(aiohttp.ClientError):  # it does not listen yet
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/readyz") as response:
                return response.status == 200 or None
        return None


@dataclass(frozen=True)
class Nursery:
    process: asyncio.subprocess.Process
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)  # one at a time

    async def start(self, port: int, **settings: object) -> Forked:
        """Returns at once: it is not ready yet."""
        given = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self.asking:
            self.process.stdin.write(orjson.dumps(given | {"GATEWAY_PORT": str(port)}) + b"\n")
            pid = int(await self.process.stdout.readline())
        return Forked(pid, f"http://127.0.0.1:{port}")


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Nursery(process)
    finally:
        with suppress(ProcessLookupError):  # it was killed
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has forked
        await process.wait()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def warm() -> None:
    """What is compiled is kept in the process."""
    load().profile(Settings().filter_profile).prepare()
    shipped_lexicon()
    gc.freeze()


def serve(environment: dict[str, str]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what it says is shown where the test fails
    os.environ.update(environment)
    main(["serve"])
    raise AssertionError("it exits by itself")


def take_orders() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for order in sys.stdin.buffer:
        pid = os.fork()
        if not pid:
            serve(orjson.loads(order))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    warm()
    take_orders()
