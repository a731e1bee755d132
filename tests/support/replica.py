"""A replica of the gateway: one address and one spool, and the processes that have them one after
another."""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp

from tests.support.conditions import eventually_found
from tests.support.gateway import PEPPER
from tests.support.redis_server import free_port

# All of these are only spent on failure.
READY_SECONDS = 60.0
EXIT_SECONDS = 60.0

POLL_SECONDS = 0.1  # it has more to do than to tell how it is

SERVE = "from app.cli import main; main()"


class Replica:
    """`gateway serve` with these settings, its output in a file below `home`.

    `code` is a directory with the gateway's packages: another version of it, perhaps.
    """

    def __init__(self, home: Path, settings: Mapping[str, object]) -> None:
        self.port = free_port()  # nobody is given it while a replica is away
        self.log = home / f"{self.port}.log"
        self.spool = home / f"{self.port}.spool"
        self._settings = {
            "key_pepper": PEPPER,
            "port": self.port,
            "audit_directory": self.spool,
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, code: Path | None = None) -> None:
        """Returns once it is ready."""
        await self.launch(code)
        what = f"a replica that is ready: {self.log}"
        await eventually_found(self._is_ready, READY_SECONDS, what, every=POLL_SECONDS)

    async def launch(self, code: Path | None = None) -> None:
        environment = {f"GATEWAY_{name.upper()}": str(v) for name, v in self._settings.items()}
        environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(code or Path.cwd())}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-c", SERVE, "serve", env=environment, stdout=log, stderr=log
            )

    async def stop(self) -> int:
        """Lets it finish what runs; gives its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(EXIT_SECONDS):
            return await self._process.wait()

    async def kill(self) -> None:
        """Without a word, as the kernel does where memory is short."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def running_requests(self) -> int:
        """As its metrics say."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        name = "gateway_in_flight_requests "
        return sum(int(float(line.removeprefix(name))) for line in lines if line.startswith(name))

    async def _is_ready(self) -> bool | None:
        if not self.running:
            raise AssertionError(f"it ended instead of being ready: {self.log.read_text()[-2000:]}")
        with suppress(aiohttp.ClientError):  # it does not listen yet
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/readyz") as response:
                return True if response.status == 200 else None
        return None
