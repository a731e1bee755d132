"""Readiness of the workers, asked of each on a timer."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import aiohttp
import structlog

from app.protocol.request import Json
from app.settings import Settings, WorkerCheck
from app.telemetry.metrics import Metrics
from app.upstream.active_probe import ActiveProbes
from app.upstream.check import Outcome, Verdict
from app.upstream.checking import Checks
from app.upstream.client import BAD_JSON, WorkerClient
from app.upstream.ejection import Fault
from app.upstream.endpoint import Endpoint
from app.upstream.own_stall import TICK_SECONDS
from app.upstream.pool import Pool
from app.upstream.telemetry import NOTHING_SAID, Telemetry, parse_metrics
from app.upstream.watch import Watch

AFTER_LOSS_SECONDS = 0.25  # at most four rounds a second while requests keep failing
START_SECONDS = 5.0  # for the first checks, so that a small setup starts ready
# A worker without metrics says so by one of these.
NO_SUCH_ROUTE = (401, 403, 404, 405, 501)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom we talked to. `started_at`: by the worker's own metrics."""

    model: str | None
    started_at: float | None

    def is_surely(self, other: "Identity") -> bool:
        """The same process: where it does not say when it started, nobody knows."""
        return self.started_at is not None and self == other

    def is_surely_not(self, other: "Identity") -> bool:
        if self.model != other.model:
            return True
        return None not in (self.started_at, other.started_at) and self != other


@dataclass(slots=True, eq=False)
class _Seen:
    """Of one worker, from round to round."""

    told_ready: bool | None = None  # what the log was last told
    identity: Identity | None = None  # when it was last asked
    taken: Identity | None = None  # when it was last found fit for requests
    silent_since: float | None = None  # no probe was answered in time
    without_metrics: bool = False


class Prober:
    """A worker is ready when it says that it is healthy and which model it serves, and when it was
    seen to split the thought off as its settings say (`check.py`). One that was away for a moment
    and is still the same process is taken back as it is."""

    def __init__(
        self,
        pool: Pool,
        client: WorkerClient,
        settings: Settings,
        metrics: Metrics,
        watch: Watch | None = None,
    ) -> None:
        """`watch` is the client's."""
        self._pool = pool
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._watch = watch or Watch(pool, settings, metrics)
        self._checks = Checks(client, settings, metrics, self._checked)
        self._active = ActiveProbes(client, settings, metrics, self._watch)
        self._seen: WeakKeyDictionary[Endpoint, _Seen] = WeakKeyDictionary()

    async def start(self) -> None:
        """The first round. Workers that take long to be checked become ready later on."""
        await self.probe_all()
        await self._checks.wait(START_SECONDS)

    async def run(self) -> None:
        """Probes for ever, all workers at once: every `probe_seconds`, and soon after a loss."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notice_own_stalls())
            tasks.create_task(self._rounds())

    async def close(self) -> None:
        """Gives up what is running beside the rounds."""
        await self._checks.close()
        await self._active.close()

    def forget(self, endpoint: Endpoint) -> None:
        """It is no longer in the pool: what runs for it is given up."""
        self._checks.give_up(endpoint)
        self._active.give_up(endpoint)

    async def probe_all(self) -> None:
        await asyncio.gather(*(self._probe(endpoint) for endpoint in list(self._pool.endpoints)))
        self._watch.relent()
        self._pool.changed()

    async def _rounds(self) -> None:
        lost = self._pool.lost
        while True:
            with contextlib.suppress(TimeoutError):  # it is time for all of them
                async with asyncio.timeout(self._settings.probe_seconds):
                    await lost.wait()
                    await asyncio.sleep(AFTER_LOSS_SECONDS)
            lost.clear()
            await self.probe_all()

    async def _notice_own_stalls(self) -> None:
        while True:
            self._watch.own_stall.tick(self._watch.clock())
            await asyncio.sleep(TICK_SECONDS)

    # -- one worker in one round

    async def _probe(self, endpoint: Endpoint) -> None:
        asked_at = self._watch.clock()
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                await self._ask(endpoint)
        except TimeoutError:
            conclude = partial(self._no_answer, endpoint, asked_at)
        except (aiohttp.ClientError, ConnectionError, *BAD_JSON) as error:
            conclude = partial(self._missed, endpoint, f"{type(error).__name__}: {error}")
        else:
            conclude = partial(self._answered, endpoint, await self._telemetry(endpoint))
        if endpoint in self._pool.endpoints:  # it may have been removed meanwhile
            conclude()

    async def _ask(self, endpoint: Endpoint) -> None:
        if endpoint.dialect.has_health:
            await self._client.is_healthy(endpoint)
        models = await self._client.get(endpoint, "/v1/models")
        card = card_of(models["data"], endpoint.settings.model)
        endpoint.learned(card["id"], context_tokens_of(card))

    async def _telemetry(self, endpoint: Endpoint) -> Telemetry:
        """What it says of its load; a worker that says nothing is none the worse."""
        seen = self._of(endpoint)
        if not endpoint.dialect.has_metrics or seen.without_metrics:
            return NOTHING_SAID
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                return parse_metrics(await self._client.metrics_page(endpoint))
        except aiohttp.ClientResponseError as error:
            seen.without_metrics = error.status in NO_SUCH_ROUTE
        except (TimeoutError, aiohttp.ClientError, ConnectionError, ValueError):
            pass  # unknown, until it says something again
        return NOTHING_SAID

    def _no_answer(self, endpoint: Endpoint, asked_at: float) -> None:
        """No answer in time. One whose tokens come all the same has more to do than to answer."""
        if endpoint.ready and self._watch.moved_at(endpoint) >= asked_at:
            return
        if self._watch.own_stall.lately(self._watch.clock()):
            return
        seen = self._of(endpoint)
        if seen.silent_since is None:
            seen.silent_since = asked_at
        self._missed(endpoint, "no answer in time")
        silent_since = max(seen.silent_since, self._watch.moved_at(endpoint))
        if self._watch.clock() - silent_since >= self._settings.silent_worker_seconds:
            self._watch.hung(endpoint, Fault.PROBE)

    def _missed(self, endpoint: Endpoint, reason: str) -> None:
        seen = self._of(endpoint)
        seen.without_metrics = False  # it may come back with them
        self._checks.give_up(endpoint)
        if seen.told_ready:
            self._watch.lost(endpoint)
        self._decide(endpoint, reason)

    def _answered(self, endpoint: Endpoint, telemetry: Telemetry) -> None:
        seen = self._of(endpoint)
        seen.silent_since = None
        identity = Identity(endpoint.model, telemetry.started_at)
        self._recognise(endpoint, seen, identity)
        seen.identity = identity
        self._watch.reported(endpoint, telemetry)
        if self._settings.worker_check is WorkerCheck.OFF:
            self._take(endpoint)
        elif not endpoint.ready and seen.taken is not None:
            self._take(endpoint)  # away for a moment, and the same
        if self._settings.worker_check is not WorkerCheck.OFF and not endpoint.verified:
            self._checks.begin(endpoint)
        self._metrics.worker_up(endpoint.name, up=endpoint.ready)
        self._active.see_to(endpoint)

    def _recognise(self, endpoint: Endpoint, seen: _Seen, identity: Identity) -> None:
        """A worker that was restarted, or may have been, is no longer the one we know."""
        if seen.identity is not None and identity.is_surely_not(seen.identity):
            self._checks.hurry(endpoint)
        if seen.taken is None:
            return
        same = not identity.is_surely_not(seen.taken)
        if not endpoint.ready:
            same = identity.is_surely(seen.taken)
        if not same:
            seen.taken = None
            endpoint.ready = endpoint.verified = False
            endpoint.renew()
        elif identity.started_at is not None:
            seen.taken = identity

    # -- what is made of it

    def _checked(self, endpoint: Endpoint, verdict: Verdict) -> None:
        endpoint.verified = verdict.outcome is Outcome.OK
        if endpoint.verified or self._settings.worker_check is WorkerCheck.WARN:
            self._take(endpoint)
        else:
            self._decide(endpoint, verdict.reason)
        self._pool.changed()

    def _take(self, endpoint: Endpoint) -> None:
        seen = self._of(endpoint)
        if seen.taken is None or not endpoint.ready:
            self._watch.took(endpoint)
        seen.taken = seen.identity
        self._decide(endpoint, "")

    def _decide(self, endpoint: Endpoint, reason: str) -> None:
        """Ready, unless there is a reason why not."""
        seen = self._of(endpoint)
        endpoint.ready = not reason
        if seen.told_ready is not endpoint.ready:
            seen.told_ready = endpoint.ready
            self._tell(endpoint, reason)
        self._metrics.worker_up(endpoint.name, up=endpoint.ready)

    def _tell(self, endpoint: Endpoint, reason: str) -> None:
        if reason:
            log.warning("worker_not_ready", worker=endpoint.name, reason=reason)
            return
        log.info(
            "worker_ready",
            worker=endpoint.name,
            model=endpoint.model,
            context_tokens=endpoint.context_tokens,
            calls=endpoint.calls,
        )

    def _of(self, endpoint: Endpoint) -> _Seen:
        seen = self._seen.get(endpoint)
        if seen is None:
            seen = self._seen[endpoint] = _Seen()
        return seen


def context_tokens_of(card: Json) -> int | None:
    """vLLM and SGLang say `max_model_len`; llama.cpp what it was started with, in `meta`."""
    length = card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx")
    return length if isinstance(length, int) and length > 0 else None


def card_of(cards: Sequence[Json], model: str | None) -> Json:
    """Of the model that it serves: the one that the settings name, listed or not, else the first.
    Raises one of BAD_JSON where there is none."""
    if model is None:
        return cards[0]
    return next((card for card in cards if card["id"] == model), {"id": model})
