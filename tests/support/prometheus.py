"""A real Prometheus that scrapes a gateway, with the rules that the repository ships."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml

from tests.support.conditions import eventually_found
from tests.support.redis_server import free_port

BINARY = shutil.which("prometheus")
MISSING = "needs a Prometheus on PATH (Debian: apt install prometheus)"
READY_SECONDS = 30.0  # of a busy machine; only spent on failure
# The page of a gateway takes a tenth of a second; two cores that do all else may need one.
SCRAPE_SECONDS = 2
JOB = "qwythos-gateway"


@asynccontextmanager
async def running_prometheus(port: int, rules: Sequence[Path]) -> AsyncIterator[str]:
    """The URL of one that scrapes `port` of this machine every SCRAPE_SECONDS."""
    assert BINARY is not None, MISSING
    home = Path(tempfile.mkdtemp(prefix="qwythos-prometheus-"))
    (home / "prometheus.yaml").write_text(yaml.safe_dump(_config(port, rules)), "utf-8")
    own = f"127.0.0.1:{free_port()}"
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            BINARY,
            f"--config.file={home / 'prometheus.yaml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address={own}",
            stdout=log,
            stderr=log,
        )
    try:
        await _ready(f"http://{own}", process, home / "log")
        yield f"http://{own}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        shutil.rmtree(home)


def _config(port: int, rules: Sequence[Path]) -> dict[str, object]:
    every = f"{SCRAPE_SECONDS}s"
    return {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
        },
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [
            {"job_name": JOB, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
    }


async def _ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with aiohttp.ClientSession() as http:

        async def find() -> bool | None:
            assert process.returncode is None, _text(log)
            try:
                async with http.get(f"{url}/-/ready") as response:
                    return True if response.status == 200 else None
            except aiohttp.ClientError:
                return None

        await eventually_found(find, READY_SECONDS, "Prometheus is ready")


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace")
