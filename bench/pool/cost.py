"""`python -m bench.pool.cost`: CPU that choosing a worker takes, where nothing waits."""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

from prometheus_client import CollectorRegistry

from app.protocol.conversation import conversation_of
from app.protocol.prefix import Prefix, PrefixMemory, prefix_of
from app.protocol.prompt_text import prompt_text
from app.settings import WorkerSettings
from app.settings.pool import PoolSettings
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.affinity import Affinity
from app.upstream.ask import Ask
from app.upstream.dispatcher import Dispatcher
from app.upstream.load import Report
from app.upstream.pool import Pool

WORKERS = 8
STREAMS = 20  # with each worker, while it is measured
ROUNDS = 15
TURNS = 2_000  # in a round
MAX_TURN_US = 60.0
MAX_HASHING_MS = 5.0
DOCUMENT_BYTES = 4 * 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m bench.pool.cost", description=__doc__).parse_args(
        arguments
    )
    gc.disable()  # a collection belongs to whoever filled the heap
    cold, warm = asyncio.run(_turns())
    _tell("a turn, nothing known of the prompt", cold, "us", MAX_TURN_US)
    _tell("a turn, 200,000 tokens known on two workers", warm, "us", MAX_TURN_US)
    _tell("hashing 4 MB: prefix and conversation", _hashing_ms(), "ms", MAX_HASHING_MS)
    return 0


def _tell(what: str, figure: float, unit: str, most: float) -> None:
    verdict = "ok" if figure <= most else "MISSED"
    print(f"{what:46} {figure:7.2f} {unit}  target <= {most:g} {unit}: {verdict}")


async def _turns() -> tuple[float, float]:
    """Microseconds for a place, its first token and its end: of a prompt that is not known, and of
    one that is."""
    settings = PoolSettings()
    urls = [f"http://10.0.0.{number}:8000" for number in range(1, WORKERS + 1)]
    pool = Pool([WorkerSettings.model_validate({"url": url}) for url in urls], settings)
    now = time.monotonic()
    for endpoint in pool.endpoints:
        endpoint.ready = True
        endpoint.load.report(Report(now, 100_000_000, STREAMS, 0, 0.2))
    memory = PrefixMemory(seconds=600, entries=50_000)
    affinity = Affinity(memory, floor_tokens_per_second=400.0)
    dispatcher = Dispatcher(pool, affinity, settings, PoolMetrics(CollectorRegistry()))
    short = _ask("a short question", 500)
    long = _ask("x" * 800_000, 200_000)
    for endpoint in pool.endpoints[:2]:
        memory.remember(long.prefix, endpoint.name, now, prompt_tokens=200_000)
    held = [await dispatcher.turn(short).__aenter__() for _ in range(WORKERS * STREAMS)]
    for turn in held:
        turn.began()
    return await _turn_us(dispatcher, short), await _turn_us(dispatcher, long)


async def _turn_us(dispatcher: Dispatcher, ask: Ask) -> float:
    rounds: list[float] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(TURNS):
            async with dispatcher.turn(ask) as turn:
                turn.began()
        rounds.append((time.process_time() - started) / TURNS * 1e6)
    return median(rounds)


def _ask(text: str, tokens: int) -> Ask:
    prompt = prompt_text({"messages": [{"role": "user", "content": text}]})
    return Ask(
        tenant="bench",
        prompt_tokens=tokens,
        output_tokens=4_096,
        needed_tokens=tokens + 4_096,
        fields={"messages": [], "stream": True, "max_tokens": 4_096},
        prefix=prefix_of(prompt, "bench"),
        conversation=conversation_of(prompt, "bench"),
        wait_seconds=120.0,
    )


def _hashing_ms() -> float:
    text = "The quick brown fox jumps over the lazy dog. " * (DOCUMENT_BYTES // 45)
    prompt = prompt_text({"messages": [{"role": "user", "content": text}]})

    def hashing() -> tuple[Prefix, bytes]:
        return prefix_of(prompt, "bench"), conversation_of(prompt, "bench")

    return median(_seconds(hashing) for _ in range(ROUNDS)) * 1e3


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
