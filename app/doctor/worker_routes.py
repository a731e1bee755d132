"""What a worker tells whoever knocks: without its key, and of its version."""

import asyncio
from contextlib import suppress

import aiohttp
import orjson

from app.settings import Engine
from app.settings.worker import WorkerSettings

# Reading alone: `/invocations` of vLLM would generate.
_ROUTES = ("/v1/models", "/metrics", "/version", "/load", "/server_info", "/slots")
_VERSIONS = {
    Engine.VLLM: ("/version", "version"),
    Engine.SGLANG: ("/server_info", "version"),
    Engine.LLAMACPP: ("/props", "build_info"),
}
# Whoever does not answer to this says nothing about itself.
NO_ANSWER = (aiohttp.ClientError, ConnectionError, TimeoutError)
MAX_ANSWER_BYTES = 1024 * 1024
MAX_VERSION_CHARACTERS = 40


async def open_routes(worker: WorkerSettings, seconds: float) -> list[str]:
    """Those that answer with 200 to whoever has no key."""
    async with _session(seconds) as session:
        statuses = await asyncio.gather(*(_status(session, worker, path) for path in _ROUTES))
    return [path for path, status in zip(_ROUTES, statuses, strict=True) if status == 200]


async def version_of(worker: WorkerSettings, seconds: float) -> str | None:
    if worker.engine not in _VERSIONS:
        return None
    path, field = _VERSIONS[worker.engine]
    headers = {}
    if worker.api_key is not None:
        headers["authorization"] = f"Bearer {worker.api_key.get_secret_value()}"
    answer = b""
    async with _session(seconds) as session:
        with suppress(*NO_ANSWER):  # the empty answer says it
            async with session.get(
                worker.base_url + path, headers=headers, allow_redirects=False
            ) as response:
                if response.status == 200:
                    answer = await response.content.read(MAX_ANSWER_BYTES)
    return _version(answer, field)


def _version(answer: bytes, field: str) -> str | None:
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    text = value.get(field) if isinstance(value, dict) else None
    return text[:MAX_VERSION_CHARACTERS] if isinstance(text, str) else None


async def _status(session: aiohttp.ClientSession, worker: WorkerSettings, path: str) -> int | None:
    status = None
    with suppress(*NO_ANSWER):  # None says it
        async with session.get(worker.base_url + path, allow_redirects=False) as response:
            status = response.status
    return status


def _session(seconds: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
