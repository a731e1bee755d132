"""Readiness of the workers, asked of each on a timer."""

import asyncio
import contextlib

import aiohttp
import structlog

from app.protocol.request import Json
from app.settings import Engine, Settings
from app.telemetry.metrics import Metrics
from app.upstream.client import BAD_JSON, WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.pool import Pool

AFTER_LOSS_SECONDS = 0.25  # at most four rounds a second while requests keep failing

log = structlog.get_logger()


class Prober:
    """A worker is ready when it says that it is healthy and which model it serves."""

    def __init__(
        self, pool: Pool, client: WorkerClient, settings: Settings, metrics: Metrics
    ) -> None:
        self._pool = pool
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._told: dict[str, bool] = {}  # what the log was last told of each worker

    async def run(self) -> None:
        """Probes for ever, all workers at once: every `probe_seconds`, and soon after a loss."""
        lost = self._pool.lost
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.probe_seconds):
                    await lost.wait()
                    await asyncio.sleep(AFTER_LOSS_SECONDS)
            lost.clear()
            await self.probe_all()

    async def probe_all(self) -> None:
        await asyncio.gather(*(self._probe(endpoint) for endpoint in self._pool.endpoints))

    async def _probe(self, endpoint: Endpoint) -> None:
        reason = ""
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                await self._ask(endpoint)
        except TimeoutError:
            reason = "no answer in time"
        except (aiohttp.ClientError, ConnectionError, *BAD_JSON) as error:
            reason = f"{type(error).__name__}: {error}"
        endpoint.ready = not reason
        if self._told.get(endpoint.name) is not endpoint.ready:
            self._told[endpoint.name] = endpoint.ready
            tell = log.info if endpoint.ready else log.warning
            tell(
                "worker_ready" if endpoint.ready else "worker_not_ready",
                worker=endpoint.name,
                reason=reason or None,
                model=endpoint.model,
                context_tokens=endpoint.context_tokens,
            )
        self._metrics.worker_up(endpoint.name, up=endpoint.ready)

    async def _ask(self, endpoint: Endpoint) -> None:
        if endpoint.settings.engine not in (Engine.OPENAI, Engine.TRANSFORMERS):
            await self._client.get(endpoint, "/health")
        models = await self._client.get(endpoint, "/v1/models")
        card: Json = models["data"][0]
        endpoint.learned(card["id"], _context_tokens(card))


def _context_tokens(card: Json) -> int | None:
    """vLLM and SGLang say `max_model_len`; llama.cpp what it was started with, in `meta`."""
    length = card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx")
    return length if isinstance(length, int) and length > 0 else None
