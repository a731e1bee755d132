"""One run: traffic, a router, and workers, in time of their own."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from app.errors import GatewayError
from app.settings import Settings, WorkerSettings
from bench.pool.cache import PrefixCache
from bench.pool.engine import KV_POOL, ScriptedEngine
from bench.pool.routers import Router
from bench.pool.traffic import LONG_SECONDS, Kind, Prompt, Traffic
from tests.support.fake_time import run_in_fake_time

WARM_UP_SECONDS = 300.0  # until every conversation has had some turns; not counted
WORKERS = 8
SHORT_STREAM, LONG_STREAM = 1_000, 1_001  # of chance; agents have those below
SHORT_CONTEXT_TOKENS, LONG_CONTEXT_TOKENS = 262_144, 1_010_000


@dataclass(frozen=True)
class Load:
    """`agents` conversations at any time; `short` questions and `long` prompts each second."""

    agents: int
    short: float
    long: float = 0.0


@dataclass(frozen=True)
class Plan:
    load: Load
    seconds: float
    long_workers: int = WORKERS  # with the long context; the others have the short one
    ends_kept: float = 1.0  # see PrefixCache
    seed: int = 1

    def with_long_workers(self, workers: int) -> "Plan":
        return replace(self, long_workers=workers)

    @property
    def workers(self) -> list[WorkerSettings]:
        return [
            WorkerSettings.model_validate(
                {
                    "url": f"http://worker-{number}:8000",
                    "max_model_len": LONG_CONTEXT_TOKENS
                    if number < self.long_workers
                    else SHORT_CONTEXT_TOKENS,
                }
            )
            for number in range(WORKERS)
        ]


@dataclass
class Class:
    """Of one kind of request: seconds to the first token, with the time in any queue."""

    first_seconds: list[float] = field(default_factory=list)
    refused: int = 0


@dataclass
class Outcome:
    classes: dict[Kind, Class] = field(default_factory=lambda: {kind: Class() for kind in Kind})
    found_tokens: int = 0
    seen_tokens: int = 0  # that had been asked before, and so could have been found
    reading_seconds: float = 0.0  # of all workers, in each second

    @property
    def hit_rate(self) -> float:
        return self.found_tokens / self.seen_tokens if self.seen_tokens else 0.0


def simulate(plan: Plan, router: Callable[[Sequence[WorkerSettings]], Router]) -> Outcome:
    """Repeats with the plan's seed."""
    return run_in_fake_time(_Run(plan).run(router))


class _Run:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._outcome = Outcome()

    async def run(self, router: Callable[[Sequence[WorkerSettings]], Router]) -> Outcome:
        """Ends when all that was asked has been answered: what takes for ever is not left out."""
        plan, load = self._plan, self._plan.load
        self._loop = asyncio.get_running_loop()
        self._begins_at = self._loop.time() + WARM_UP_SECONDS
        self._ends_at = self._begins_at + plan.seconds
        self._router = router(plan.workers)
        self._engines = [ScriptedEngine(_cache(plan, number)) for number in range(WORKERS)]
        reporting = asyncio.create_task(self._report())
        async with asyncio.TaskGroup() as self._tasks:
            # Each has a stream of chance of its own, so that every router is asked the same.
            for number in range(load.agents):
                self._tasks.create_task(self._agent(Traffic(plan.seed, number)))
            self._tasks.create_task(self._flood(Traffic(plan.seed, SHORT_STREAM)))
            self._tasks.create_task(self._longs(Traffic(plan.seed, LONG_STREAM)))
            await asyncio.sleep(WARM_UP_SECONDS)
            before = self._reading_seconds()
            await asyncio.sleep(plan.seconds)
            self._outcome.reading_seconds = (self._reading_seconds() - before) / plan.seconds
        reporting.cancel()
        return self._outcome

    # -- who asks

    async def _agent(self, traffic: Traffic) -> None:
        """One conversation after the other. They do not begin all at once."""
        await asyncio.sleep(traffic.chance.uniform(0, WARM_UP_SECONDS / 2))
        conversation = traffic.agent(under_way=True)
        while self._is_on():
            prompt, answer_tokens = traffic.go_on(conversation)
            await self._request(prompt, answer_tokens)
            if traffic.ends(conversation):
                conversation = traffic.agent()
            await asyncio.sleep(traffic.pause_seconds())

    async def _flood(self, traffic: Traffic) -> None:
        while await self._arrives(traffic, self._plan.load.short):
            self._tasks.create_task(self._request(*traffic.short()))

    async def _longs(self, traffic: Traffic) -> None:
        while await self._arrives(traffic, self._plan.load.long):
            self._tasks.create_task(self._long(traffic))

    async def _long(self, traffic: Traffic) -> None:
        conversation = traffic.long()
        again = traffic.asks_again()
        await self._request(*traffic.go_on(conversation))
        if again and self._is_on():
            await asyncio.sleep(LONG_SECONDS)
            await self._request(*traffic.go_on(conversation))

    async def _arrives(self, traffic: Traffic, per_second: float) -> bool:
        """Requests that know nothing of each other, until the time is over."""
        if per_second:
            await asyncio.sleep(traffic.chance.expovariate(per_second))
        return per_second > 0 and self._is_on()

    def _is_on(self) -> bool:
        return self._loop.time() < self._ends_at

    # -- what becomes of it

    async def _request(self, prompt: Prompt, answer_tokens: int) -> None:
        came_at = self._loop.time()
        counts = self._begins_at <= came_at < self._ends_at
        seen_as = self._outcome.classes[prompt.kind]
        try:
            async with self._router.turn(prompt) as placed:
                job = self._engines[placed.worker].submit(prompt, answer_tokens)
                cached_tokens = await job.first
                placed.began(cached_tokens)
                if counts:
                    seen_as.first_seconds.append(self._loop.time() - came_at)
                    self._outcome.found_tokens += min(cached_tokens, prompt.seen_tokens)
                    self._outcome.seen_tokens += prompt.seen_tokens
                await job.done
        except GatewayError:
            seen_as.refused += counts

    async def _report(self) -> None:
        """As often as workers are probed."""
        seconds: float = Settings.model_fields["probe_seconds"].default
        while True:
            self._router.report(self._engines)
            await asyncio.sleep(seconds)

    def _reading_seconds(self) -> float:
        return sum(engine.reading_seconds for engine in self._engines)


def _cache(plan: Plan, number: int) -> PrefixCache:
    chance = random.Random(f"{plan.seed} cache {number}")
    return PrefixCache(KV_POOL.blocks, ends_kept=plan.ends_kept, chance=chance)
