"""One token, asked of a worker that has nothing of ours: the proof of life that `/health` is not.

A worker that reads a long prompt for another replica may answer only after it, so one that says it
is at work is believed for a while. `transformers serve` is never asked: a request could come while
it answers us, and it crashes on some that come together.
"""

import asyncio
import secrets
from weakref import WeakKeyDictionary

import structlog

from app.errors import GatewayError, InvalidRequest
from app.protocol.chunks import MalformedChunk, decode_chunk
from app.protocol.events import Finish, ReasoningDelta, StreamFailed, TextDelta
from app.protocol.request import Json
from app.protocol.sse import DONE, SSEDecoder, SSEError
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.upstream.check import QUESTION
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.engines import rid_of, worker_body
from app.upstream.refusals import WorkerBusy
from app.upstream.watch import Watch

log = structlog.get_logger()

# The longest prefill of other replicas that is borne without a sign: 1M tokens on one H100 take
# 4.3 minutes.
AT_WORK_SECONDS = 300.0
ONE_TOKEN: Json = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1}


class ActiveProbes:
    """Each runs beside the prober's rounds, at most one for a worker."""

    def __init__(
        self, client: WorkerClient, settings: Settings, metrics: Metrics, watch: Watch
    ) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics.pool
        self._watch = watch
        self._tasks: WeakKeyDictionary[Endpoint, asyncio.Task[None]] = WeakKeyDictionary()

    def see_to(self, endpoint: Endpoint) -> None:
        """Begins one where it is due. Raises what a defect of ours made the last one raise."""
        last = self._tasks.get(endpoint)
        if last is not None:
            if not last.done():
                return
            if not last.cancelled():
                last.result()
        if self._is_due(endpoint):
            task = asyncio.get_running_loop().create_task(self._probe(endpoint))
            self._tasks[endpoint] = task

    def give_up(self, endpoint: Endpoint) -> None:
        task = self._tasks.get(endpoint)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_due(self, endpoint: Endpoint) -> bool:
        if not endpoint.ready or endpoint.in_flight or endpoint.last_resort:
            return False
        if endpoint.ejected_until is not None:
            return self._watch.awaits_trial(endpoint)
        silent_seconds = self._watch.clock() - self._watch.moved_at(endpoint)
        if silent_seconds < self._settings.active_probe_seconds:
            return False
        at_work = bool(self._watch.telemetry(endpoint).running)
        return not at_work or silent_seconds >= AT_WORK_SECONDS

    async def _probe(self, endpoint: Endpoint) -> None:
        generation = endpoint.generation
        try:
            async with asyncio.timeout(self._settings.active_probe_timeout_seconds):
                await self._ask(endpoint)
        except (WorkerBusy, InvalidRequest):
            # It lives, and has its reasons.
            self._metrics.actively_probed(endpoint.name, "busy")
            return
        except (TimeoutError, GatewayError, SSEError, MalformedChunk) as error:
            self._failed(endpoint, generation, error)
        else:
            self._metrics.actively_probed(endpoint.name, "ok")
            self._watch.probed(endpoint, alive=True)

    def _failed(self, endpoint: Endpoint, generation: int, error: Exception) -> None:
        self._metrics.actively_probed(endpoint.name, "failed")
        if not endpoint.ready or endpoint.generation != generation:
            return  # it has gone meanwhile, which others have noticed
        log.warning("worker_probe_failed", worker=endpoint.name, reason=type(error).__name__)
        self._watch.probed(endpoint, alive=False)

    async def _ask(self, endpoint: Endpoint) -> None:
        """Returns with the first token, or the end. Raises where there is none."""
        request_id = f"req_probe_{secrets.token_hex(8)}"
        rid = rid_of(endpoint.dialect, request_id)
        stream = await self._client.open(
            endpoint,
            worker_body(endpoint.dialect, endpoint.settings, endpoint.model or "", ONE_TOKEN, rid),
            request_id=request_id,
            first_byte_seconds=self._settings.active_probe_timeout_seconds,
            rid=rid,
            ours=True,
        )
        decoder = SSEDecoder()
        try:
            while data := await stream.read():
                for payload in decoder.feed(data):
                    if payload != DONE and _is_sign_of_life(payload):
                        return
        finally:
            stream.close()
        raise MalformedChunk("the answer ended without a token")


def _is_sign_of_life(payload: bytes) -> bool:
    """A token, or an end that was reached. Raises MalformedChunk, also for a failure."""
    for event in decode_chunk(payload):
        if isinstance(event, StreamFailed):
            raise MalformedChunk(event.message)
        if isinstance(event, Finish | TextDelta | ReasoningDelta):
            return True
    return False
