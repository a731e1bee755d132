"""The gateway as its users start it: `gateway serve`, one process, a real database, nothing off."""

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.postgres import embedded_postgres
from bench.processes import ChildFailed, child, free_port, until_listening

COMMAND = Path(sys.executable).with_name("gateway")


@dataclass(frozen=True)
class Running:
    port: int
    pid: int
    api_key: str


@asynccontextmanager
async def gateway(worker_port: int, home: Path) -> AsyncIterator[Running]:
    """In front of the worker, with an API key. Raises ChildFailed."""
    async with embedded_postgres(home) as database_url:
        port = free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"},
            "GATEWAY_DATABASE_URL": database_url,
            "GATEWAY_KEY_PEPPER": base64.b64encode(secrets.token_bytes(32)).decode(),
            "GATEWAY_WORKERS": json.dumps([f"http://127.0.0.1:{worker_port}"]),
            "GATEWAY_PORT": str(port),
            "GATEWAY_HOME": str(home),
        }
        _command(environment, "db", "upgrade")
        key = json.loads(_command(environment, "keys", "create", "--name", "bench", "--json"))
        log = home / "gateway.log"
        async with child(COMMAND, "serve", environment=environment, log=log) as process:
            await until_listening(port, process, "the gateway", log)
            yield Running(port, process.pid, key["secret"])


def _command(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise ChildFailed(f"`gateway {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
