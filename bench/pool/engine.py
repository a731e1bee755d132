"""A scripted worker: an H100 by calculation, with a prefix cache, in the loop's own time."""

import asyncio
import heapq
from collections import deque
from dataclasses import dataclass

from app.sizing.gpus import GPUS
from app.sizing.memory import kv_pool
from app.sizing.model import KvType
from app.sizing.speed import prefill_seconds
from bench.pool.cache import BLOCK_TOKENS, PrefixCache
from bench.pool.traffic import Prompt

GPU = GPUS["h100"]
KV_POOL = kv_pool(GPU, 1, KvType.BF16, 0.92)  # vLLM's own share of the memory
SLOTS = 64  # `--max-num-seqs`, as the launch files have it
# Of each stream, in a batch of some twenty with long contexts.
WRITTEN_PER_SECOND = 40.0
# While a prompt is read: a token for each step, and a step reads 8,192 tokens.
WRITTEN_BESIDE_READING_PER_SECOND = 5.0


def reading_seconds(prompt_tokens: int, cached_tokens: int) -> float:
    """Of a prompt whose beginning is there: half way between the best and the worst."""
    return _seconds(prompt_tokens) - _seconds(cached_tokens)


def _seconds(tokens: int) -> float:
    found = prefill_seconds(GPU, 1, tokens)
    if found is None:
        raise LookupError(f"nothing is known of the speed of {GPU.name}")
    return sum(found) / 2


@dataclass(slots=True, eq=False)
class Job:
    """`first` is done with the first token and says how many tokens were found in the cache."""

    prompt: Prompt
    output_tokens: int
    first: asyncio.Future[int]
    done: asyncio.Future[None]


class ScriptedEngine:
    """Reads one prompt at a time, in the order in which they came, as vLLM's scheduler does for all
    that does not fit into the step that a long one fills. Writes up to SLOTS answers meanwhile."""

    def __init__(self, cache: PrefixCache) -> None:
        self.capacity_tokens = KV_POOL.longest_tokens
        self.reading_seconds = 0.0
        self._cache = cache
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Job] = deque()
        self._reading: Job | None = None
        self._held_tokens = 0
        self._running = 0
        self._writing: list[tuple[float, int, Job]] = []
        self._written = 0.0  # by each stream, since the start
        self._written_at = self._loop.time()
        self._rate = WRITTEN_PER_SECOND
        self._next_end: asyncio.TimerHandle | None = None
        self._number = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        return min(1.0, self._held_tokens / self.capacity_tokens)

    def submit(self, prompt: Prompt, output_tokens: int) -> Job:
        job = Job(prompt, output_tokens, self._loop.create_future(), self._loop.create_future())
        self._waiting.append(job)
        self._read_next()
        return job

    # -- reading

    def _read_next(self) -> None:
        if self._reading is not None or not self._waiting or not self._fits(self._waiting[0]):
            return
        job = self._reading = self._waiting.popleft()
        self._running += 1
        self._held_tokens += _held(job)
        cached = self._cache.find(job.prompt.blocks) * BLOCK_TOKENS
        seconds = reading_seconds(job.prompt.tokens, cached)
        self.reading_seconds += seconds
        self._write_at(WRITTEN_BESIDE_READING_PER_SECOND)
        self._loop.call_later(seconds, self._has_read, job, cached)

    def _fits(self, job: Job) -> bool:
        if not self._running:
            return True
        room = self.capacity_tokens - self._held_tokens
        return self._running < SLOTS and _held(job) <= room

    def _has_read(self, job: Job, cached_tokens: int) -> None:
        self._reading = None
        self._cache.read(job.prompt.blocks)
        job.first.set_result(cached_tokens)
        self._write_at(WRITTEN_PER_SECOND)
        self._number += 1
        heapq.heappush(self._writing, (self._written + job.output_tokens, self._number, job))
        self._plan_end()
        self._read_next()

    # -- writing

    def _write_at(self, rate: float) -> None:
        now = self._loop.time()
        self._written += (now - self._written_at) * self._rate
        self._written_at, self._rate = now, rate
        self._plan_end()

    def _plan_end(self) -> None:
        if self._next_end is not None:
            self._next_end.cancel()
            self._next_end = None
        if self._writing:
            left = self._writing[0][0] - self._written
            self._next_end = self._loop.call_later(max(0.0, left / self._rate), self._end)

    def _end(self) -> None:
        _, _, job = heapq.heappop(self._writing)
        self._running -= 1
        self._held_tokens -= _held(job)
        job.done.set_result(None)
        self._write_at(self._rate)
        self._read_next()


def _held(job: Job) -> int:
    return job.prompt.tokens + job.output_tokens
