"""The gateway as its users start it: `gateway serve`, one process, a real database, nothing off.

And a second one with the same database, whose key has limits that are kept in Redis.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.postgres import embedded_postgres
from bench.processes import ChildFailed, child, free_port, until_listening

Environment = dict[str, str]

COMMAND = Path(sys.executable).with_name("gateway")
# One of each kind, and none that the load comes near: it asks for some 10**5 requests and 10**8
# tokens a minute.
LIMITS = (
    *("--rpm", str(10**7)),
    *("--tpm", str(10**10)),
    *("--concurrency", str(10**4)),
    *("--tokens-per-day", str(10**12)),
)


@dataclass(frozen=True)
class Running:
    port: int
    pid: int
    api_key: str
    metadata_key: str  # with the same rights; nothing of its requests' text is kept on record


@asynccontextmanager
async def database(worker_port: int, home: Path) -> AsyncIterator[Environment]:
    """The environment of gateways that share a database and a worker. Raises ChildFailed."""
    async with embedded_postgres(home) as database_url:
        environment = {
            **{name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"},
            "GATEWAY_DATABASE_URL": database_url,
            "GATEWAY_KEY_PEPPER": base64.b64encode(secrets.token_bytes(32)).decode(),
            "GATEWAY_WORKERS": json.dumps([f"http://127.0.0.1:{worker_port}"]),
            "GATEWAY_HOME": str(home),
        }
        _command(environment, "db", "upgrade")
        yield environment


@asynccontextmanager
async def gateway(environment: Environment) -> AsyncIterator[Running]:
    """With an API key without limits. Raises ChildFailed."""
    async with _serving(environment, "gateway", ()) as running:
        yield running


@asynccontextmanager
async def limited_gateway(environment: Environment, redis_url: str) -> AsyncIterator[Running]:
    """With a key that has limits, kept in Redis. Raises ChildFailed."""
    environment = environment | {"GATEWAY_REDIS_URL": redis_url}
    async with _serving(environment, "limited-gateway", LIMITS) as running:
        yield running


@asynccontextmanager
async def _serving(
    environment: Environment, name: str, policy: Sequence[str]
) -> AsyncIterator[Running]:
    port = free_port()
    create = ("keys", "create", "--name", name, *policy, "--json")
    keys = [
        json.loads(_command(environment, *create, "--audit", level))["secret"]
        for level in ("full", "metadata")
    ]
    log = Path(environment["GATEWAY_HOME"]) / f"{name}.log"
    environment = environment | {"GATEWAY_PORT": str(port)}
    async with child(COMMAND, "serve", environment=environment, log=log) as process:
        await until_listening(port, process, f"the {name}", log)
        yield Running(port, process.pid, *keys)


def _command(environment: Environment, *arguments: str) -> str:
    done = subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise ChildFailed(f"`gateway {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
