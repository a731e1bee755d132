"""Who chooses the worker: the gateway's own dispatcher, or a simpler rule to hold it against."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from prometheus_client import CollectorRegistry

from app.protocol.prefix import NOTHING_KNOWN, PrefixMemory
from app.settings import Settings, WorkerSettings
from app.settings.pool import PoolSettings
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.affinity import Affinity
from app.upstream.ask import Ask
from app.upstream.dispatcher import Dispatcher
from app.upstream.load import Report
from app.upstream.pool import Pool
from app.upstream.turn import Turn
from bench.pool.engine import ScriptedEngine
from bench.pool.traffic import Prompt

MAX_TOKENS = 4_096  # of an answer, as clients ask for them


class Placed(Protocol):
    """A place on the worker of that number."""

    worker: int

    def began(self, cached_tokens: int) -> None:
        """Its first token is there, and so much of its prompt was found in the cache."""


class Router(Protocol):
    def turn(self, prompt: Prompt) -> AbstractAsyncContextManager[Placed]:
        """Waits for a place. Raises GatewayError."""

    def report(self, engines: Sequence[ScriptedEngine]) -> None:
        """What the workers say of themselves, as often as they are probed."""


class _Simple:
    """A worker at once, whatever is there; knows which contexts hold the prompt."""

    def __init__(self, workers: Sequence[WorkerSettings]) -> None:
        self._contexts = [worker.max_model_len or 0 for worker in workers]
        self._in_flight = [0] * len(workers)
        self._turn = 0

    @asynccontextmanager
    async def turn(self, prompt: Prompt) -> AsyncIterator[Placed]:
        needed = prompt.tokens + MAX_TOKENS
        fit = [at for at, context in enumerate(self._contexts) if context >= needed]
        self._turn += 1
        start = self._turn % len(fit)
        worker = self._pick(fit[start:] + fit[:start])
        self._in_flight[worker] += 1
        try:
            yield _Anywhere(worker)
        finally:
            self._in_flight[worker] -= 1

    def report(self, engines: Sequence[ScriptedEngine]) -> None:
        """It does not listen."""

    def _pick(self, fit: Sequence[int]) -> int:
        raise NotImplementedError


class _Anywhere:
    def __init__(self, worker: int) -> None:
        self.worker = worker

    def began(self, cached_tokens: int) -> None:
        """Nothing is learned."""


class RoundRobin(_Simple):
    def _pick(self, fit: Sequence[int]) -> int:
        return fit[0]


class FewestInFlight(_Simple):
    """In turn among equals."""

    def _pick(self, fit: Sequence[int]) -> int:
        return min(fit, key=self._in_flight.__getitem__)


class Gateway:
    """One replica of the gateway, from the estimate to what is learned of an answer."""

    def __init__(self, workers: Sequence[WorkerSettings]) -> None:
        self._clock = asyncio.get_running_loop().time
        settings = PoolSettings()
        self._pool = Pool(workers, settings)
        self._queue_seconds = settings.queue_seconds
        for endpoint in self._pool.endpoints:
            endpoint.ready = True
        self._numbers = {each: number for number, each in enumerate(self._pool.endpoints)}
        self._memory = PrefixMemory(
            seconds=_default("prefix_memory_seconds"), entries=_default("prefix_memory_entries")
        )
        affinity = Affinity(
            self._memory, floor_tokens_per_second=_default("prefill_floor_tokens_per_second")
        )
        self.metrics = PoolMetrics(CollectorRegistry())
        self._dispatcher = Dispatcher(
            self._pool, affinity, settings, self.metrics, clock=self._clock
        )

    @asynccontextmanager
    async def turn(self, prompt: Prompt) -> AsyncIterator[Placed]:
        known = self._memory.known_at(prompt.prefix, self._clock())
        ask = Ask(
            tenant=prompt.tenant,
            prompt_tokens=prompt.tokens,
            output_tokens=MAX_TOKENS,
            needed_tokens=prompt.tokens + MAX_TOKENS,
            fields={},
            prefix=prompt.prefix,
            conversation=prompt.conversation,
            wait_seconds=self._queue_seconds,
        )
        async with self._dispatcher.turn(ask) as turn:
            placed = _Turn(self._numbers[turn.endpoint], turn)
            yield placed
            # As app/gateway/learn.py does it with what an answer said of itself.
            worker = turn.endpoint.name
            had = known.get(worker, NOTHING_KNOWN)
            self._memory.learn(worker, had, prompt.tokens, placed.cached_tokens)
            if had.kept and not placed.cached_tokens:
                self._memory.forget(prompt.prefix, worker)
            self._memory.remember(prompt.prefix, worker, self._clock(), prompt_tokens=prompt.tokens)

    def report(self, engines: Sequence[ScriptedEngine]) -> None:
        now = self._clock()
        for endpoint, engine in zip(self._pool.endpoints, engines, strict=True):
            endpoint.load.report(
                Report(now, engine.capacity_tokens, engine.running, engine.waiting, engine.kv_usage)
            )
        self._pool.changed()


class _Turn:
    def __init__(self, worker: int, turn: Turn) -> None:
        self.worker = worker
        self.cached_tokens = 0
        self._turn = turn

    def began(self, cached_tokens: int) -> None:
        self.cached_tokens = cached_tokens
        self._turn.began()


class Replicas:
    """Several gateways, which say nothing to each other. Whoever balances between them lets chance
    decide."""

    def __init__(self, replicas: Sequence[Router]) -> None:
        self._replicas = replicas
        self._chance = random.Random(len(replicas))  # the same in each run

    def turn(self, prompt: Prompt) -> AbstractAsyncContextManager[Placed]:
        return self._pick(prompt).turn(prompt)

    def report(self, engines: Sequence[ScriptedEngine]) -> None:
        for replica in self._replicas:
            replica.report(engines)

    def _pick(self, prompt: Prompt) -> Router:
        return self._chance.choice(self._replicas)


class ByConversation(Replicas):
    """Whoever balances between them keeps a conversation to one of them."""

    def _pick(self, prompt: Prompt) -> Router:
        return self._replicas[prompt.conversation[0] % len(self._replicas)]


def _default(name: str) -> int:
    value: int = Settings.model_fields[name].default
    return value
