"""A real Envoy with the example of `deploy/envoy`, of which only the addresses are others."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.conditions import eventually_found
from tests.support.redis_server import free_port

EXAMPLE = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
HEALTHY_SECONDS = 60.0  # only spent on failure
POLL_SECONDS = 0.1

Config = dict[str, Any]


def find_envoy() -> str | None:
    """The wheel's, beside our Python, or else the one on PATH."""
    return shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")


@dataclass(frozen=True)
class Envoy:
    port: int
    admin_port: int
    replicas: frozenset[int]  # their ports
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def sends_to_all(self) -> None:
        """Returns once it holds all replicas for healthy."""

        async def found() -> bool | None:
            return True if await self._healthy() == self.replicas else None

        what = f"Envoy sends to all replicas: {self.log}"
        await eventually_found(found, HEALTHY_SECONDS, what, every=POLL_SECONDS)

    async def _healthy(self) -> frozenset[int] | None:
        address = f"http://127.0.0.1:{self.admin_port}/clusters?format=json"
        with suppress(aiohttp.ClientError):  # it does not listen yet
            async with aiohttp.ClientSession() as http, http.get(address) as response:
                (cluster,) = json.loads(await response.text())["cluster_statuses"]
                return frozenset(
                    host["address"]["socket_address"]["port_value"]
                    for host in cluster["host_statuses"]
                    if host["health_status"] == {"eds_health_status": "HEALTHY"}
                )
        return None


@asynccontextmanager
async def running_envoy(binary: str, replicas: Sequence[int], home: Path) -> AsyncIterator[Envoy]:
    """In front of the replicas on these ports of 127.0.0.1; yields once it sends to all of them."""
    port, admin_port = free_port(), free_port()
    config = _with_addresses(port, admin_port, replicas)
    file, log = home / "envoy.json", home / "envoy.log"
    file.write_text(json.dumps(config), "utf-8")
    command = [binary, "-c", str(file), "--disable-hot-restart", "--log-level", "warn"]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    envoy = Envoy(port, admin_port, frozenset(replicas), log)
    try:
        await envoy.sends_to_all()
        yield envoy
    finally:
        process.kill()
        await process.wait()


def _with_addresses(port: int, admin_port: int, replicas: Sequence[int]) -> Config:
    config: Config = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    config["admin"]["address"] = _address(admin_port)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"] = _address(port)
    (cluster,) = config["static_resources"]["clusters"]
    cluster["type"] = "STATIC"
    endpoints = [{"endpoint": {"address": _address(each)}} for each in replicas]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    return config


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
