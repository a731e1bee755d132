"""Readiness of the workers, asked of each on a timer."""

import asyncio
import contextlib

import aiohttp
import structlog

from app.protocol.request import Json
from app.settings import Engine, Settings, WorkerCheck
from app.telemetry.metrics import Metrics
from app.upstream.check import Outcome, Verdict, check
from app.upstream.client import BAD_JSON, WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.pool import Pool

AFTER_LOSS_SECONDS = 0.25  # at most four rounds a second while requests keep failing
START_SECONDS = 5.0  # for the first checks, so that a small setup starts ready

log = structlog.get_logger()


class Prober:
    """A worker is ready when it says that it is healthy and which model it serves, and when it was
    seen to split the thought off as its settings say (`check.py`)."""

    def __init__(
        self, pool: Pool, client: WorkerClient, settings: Settings, metrics: Metrics
    ) -> None:
        self._pool = pool
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._told: dict[str, bool] = {}  # what the log was last told of each worker
        self._told_verdict: dict[str, Verdict] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}  # the loop's time: a failed check is not hurried
        self._checked_model: dict[str, str | None] = {}

    async def start(self) -> None:
        """The first round. Workers that take long to be checked become ready later on."""
        await self.probe_all()
        if self._checks:
            await asyncio.wait(list(self._checks.values()), timeout=START_SECONDS)

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

    async def close(self) -> None:
        """Gives up the checks that are running."""
        checks = list(self._checks.values())
        for check_task in checks:
            check_task.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

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
        if reason:
            self._give_up_check(endpoint)
            self._decide(endpoint, reason)
        elif self._settings.worker_check is WorkerCheck.OFF:
            self._decide(endpoint, "")
        else:
            self._see_to_check(endpoint)

    def _see_to_check(self, endpoint: Endpoint) -> None:
        """A worker that had been away, or serves another model, is no longer the one we know."""
        checked_model = self._checked_model.get(endpoint.name)
        if not endpoint.ready or checked_model != endpoint.model:
            endpoint.ready = endpoint.verified = False
        if checked_model != endpoint.model:
            self._not_before.pop(endpoint.name, None)
        if not endpoint.verified:
            self._begin_check(endpoint)
        self._metrics.worker_up(endpoint.name, up=endpoint.ready)

    def _begin_check(self, endpoint: Endpoint) -> None:
        """Beside the probes, which go on. Raises what a defect of ours made the last one raise."""
        last = self._checks.get(endpoint.name)
        if last is not None:
            if not last.done():
                return
            if not last.cancelled():
                last.result()
        loop = asyncio.get_running_loop()
        if loop.time() >= self._not_before.get(endpoint.name, 0.0):
            self._checks[endpoint.name] = loop.create_task(self._check(endpoint))

    def _give_up_check(self, endpoint: Endpoint) -> None:
        if (running := self._checks.get(endpoint.name)) is not None:
            running.cancel()
        self._not_before.pop(endpoint.name, None)  # it may come back as another

    async def _check(self, endpoint: Endpoint) -> None:
        model, was_ready = endpoint.model, endpoint.ready
        verdict = await check(endpoint, self._client, self._settings.worker_check_seconds)
        self._metrics.worker_checked(endpoint.name, verdict.outcome)
        if endpoint.model != model or endpoint.ready is not was_ready:
            return  # another model, or lost meanwhile: the next probe begins anew
        endpoint.verified = verdict.outcome is Outcome.OK
        self._checked_model[endpoint.name] = model
        if verdict.outcome is Outcome.FAILED:
            retry = self._settings.worker_check_retry_seconds
            self._not_before[endpoint.name] = asyncio.get_running_loop().time() + retry
        self._tell_verdict(endpoint, verdict)
        taken = endpoint.verified or self._settings.worker_check is WorkerCheck.WARN
        self._decide(endpoint, "" if taken else verdict.reason)

    def _tell_verdict(self, endpoint: Endpoint, verdict: Verdict) -> None:
        """Once, however often it is asked; and loudly, as it is the operator who has to act."""
        if self._told_verdict.get(endpoint.name) == verdict:
            return
        self._told_verdict[endpoint.name] = verdict
        if verdict.outcome is Outcome.FAILED:
            log.error("worker_check_failed", worker=endpoint.name, reason=verdict.reason)
        elif verdict.outcome is Outcome.UNDECIDED:
            log.warning("worker_check_undecided", worker=endpoint.name, reason=verdict.reason)

    def _decide(self, endpoint: Endpoint, reason: str) -> None:
        """Ready, unless there is a reason why not."""
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
                calls=endpoint.calls,
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
