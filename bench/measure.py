"""One scenario through nginx and through the gateway, by turns, and what each of them spent.

All go through the gateway once more with a key of whose requests no text is kept on record, and
some through a second gateway, with limits in Redis.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field

import orjson

from bench.figures import Beside, Limits, Row, Texts, percentile_ms
from bench.load import Load, Result
from bench.plans import BESIDE, BesidePlan, Plan
from bench.processes import ChildFailed, child, cpu_seconds, python_module, read_line, write_line
from bench.scenarios import LARGE, UNARY

STILL_SECONDS = 0.3  # longer than the gateway's audit log waits for company
STILL_SHARE = 0.05  # of one core: timers and probes, and no work
SETTLE_SECONDS = 10.0  # then it is measured as it is

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """What is measured: a port, and the processes behind it."""

    name: str
    gateway: bool
    port: int
    pids: list[int]
    api_key: str


@dataclass
class Samples:
    """Of one target, over the rounds."""

    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    first_byte_seconds: list[float] = field(default_factory=list)
    answers: int = 0


@dataclass(frozen=True)
class Limited:
    """The gateway with limits, and how many scripts its Redis has run."""

    target: Target
    scripts_run: Callable[[], Awaitable[int]]


class LoadProcess:
    """A load generator in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def apply(self, load: Load) -> Result:
        await write_line(self._process, orjson.dumps(asdict(load)))
        return Result(**orjson.loads(await read_line(self._process, "the load generator")))


@asynccontextmanager
async def load_processes(number: int) -> AsyncIterator[list[LoadProcess]]:
    async with AsyncExitStack() as stack:
        yield [
            LoadProcess(await stack.enter_async_context(child(*python_module("bench.load"))))
            for _ in range(number)
        ]


class Bench:
    """Collects, of all rounds, what was wrong in an answer: then the figures mean nothing."""

    def __init__(
        self,
        nginx: Target,
        gateway: Target,
        textless: Target,
        limited: Limited,
        loads: list[LoadProcess],
        progress: Progress,
    ) -> None:
        self._targets = (nginx, gateway)
        self._textless = textless
        self._limited = limited
        self._load, self._second_load = loads
        self._progress = progress
        self.faults: list[str] = []

    async def row(self, plan: Plan) -> Row:
        targets = [*self._targets, self._textless]
        if plan.limited:
            targets.append(self._limited.target)
        await self._rounds(plan, targets, ["warming up"])
        scripts_before = await self._limited.scripts_run()
        rounds = [f"round {number} of {plan.rounds}" for number in range(1, plan.rounds + 1)]
        nginx, gateway, textless, *limited = await self._rounds(plan, targets, rounds)
        scripts = await self._limited.scripts_run() - scripts_before
        return Row(
            scenario=plan.scenario.name,
            title=plan.scenario.title,
            events=plan.scenario.events if plan.scenario.stream else None,
            nginx_us=statistics.median(nginx.cpu_us),
            gateway_us=statistics.median(gateway.cpu_us),
            nginx_per_second=statistics.median(nginx.per_second),
            gateway_per_second=statistics.median(gateway.per_second),
            added_p50_ms=_added_ms(nginx, gateway, 50),
            added_p99_ms=_added_ms(nginx, gateway, 99),
            texts=_texts(textless, gateway),
            limits=_limits(gateway, limited[0], scripts) if limited else None,
        )

    async def beside(self, plan: BesidePlan) -> Beside:
        """Small requests while large bodies pass without a break."""
        small: list[Result] = []
        for target in self._targets:
            self._progress(f"{BESIDE}: {target.name}")
            flow = _load(
                target, LARGE.name, connections=plan.large_connections, seconds=plan.seconds
            )
            asked = _load(
                target,
                UNARY.name,
                connections=plan.small_connections,
                seconds=plan.seconds,
                pause_seconds=plan.pause_seconds,
            )
            large, answered = await asyncio.gather(
                self._second_load.apply(flow), self._load.apply(asked)
            )
            self._note(target, large)
            self._note(target, answered)
            small.append(answered)
            large_per_second = len(large.seconds) / large.wall_seconds
        nginx, gateway = small
        return Beside(
            nginx_p50_ms=percentile_ms(nginx.seconds, 50),
            nginx_p99_ms=percentile_ms(nginx.seconds, 99),
            gateway_p50_ms=percentile_ms(gateway.seconds, 50),
            gateway_p99_ms=percentile_ms(gateway.seconds, 99),
            large_per_second=large_per_second,
            small_answers=len(gateway.seconds),
        )

    async def _rounds(
        self, plan: Plan, targets: Sequence[Target], rounds: Sequence[str]
    ) -> list[Samples]:
        """One of each target. They take turns, back and forth: none is always the first."""
        samples = [Samples() for _ in targets]
        turns = list(zip(targets, samples, strict=True))
        for name in rounds:
            for target, taken in turns:
                self._progress(f"{plan.scenario.title}: {target.name}, {name}")
                await self._round(plan, target, taken)
            turns.reverse()
        return samples

    async def _round(self, plan: Plan, target: Target, samples: Samples) -> None:
        before = await cpu_when_still(target.pids)
        result = await self._load.apply(
            _load(
                target,
                plan.scenario.name,
                connections=plan.connections,
                requests=plan.requests,
                spread_seconds=plan.spread_seconds,
            )
        )
        spent = await cpu_when_still(target.pids) - before
        self._note(target, result)
        answers = max(1, len(result.seconds))
        samples.cpu_us.append(spent / answers * 1e6)
        samples.per_second.append(answers / result.wall_seconds)
        if plan.alone_requests:  # without others, else it is the queue that is timed
            result = await self._load.apply(
                _load(target, plan.scenario.name, connections=1, requests=plan.alone_requests)
            )
            self._note(target, result)
            answers += len(result.seconds)
        samples.answers += answers
        samples.first_byte_seconds += result.first_byte_seconds

    def _note(self, target: Target, result: Result) -> None:
        if not result.seconds:
            raise ChildFailed(f"{target.name} gave no answer: {result.faults[:1]}")
        self.faults += [f"{target.name}: {fault}" for fault in result.faults]


async def cpu_when_still(pids: list[int]) -> float:
    """Seconds of CPU so far, once what a load leaves behind (its audit records) is done."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS
    spent = cpu_seconds(pids)
    while loop.time() < deadline:
        await asyncio.sleep(STILL_SECONDS)
        now = cpu_seconds(pids)
        if now - spent < STILL_SECONDS * STILL_SHARE:
            return now
        spent = now
    return spent


def _load(target: Target, scenario: str, **how: float) -> Load:
    return Load(
        scenario=scenario,
        port=target.port,
        gateway=target.gateway,
        api_key=target.api_key,
        **how,  # type: ignore[arg-type]  # its counts are whole numbers
    )


def _texts(without: Samples, kept: Samples) -> Texts:
    rounds = zip(kept.cpu_us, without.cpu_us, strict=True)
    return Texts(
        share=statistics.median(more / less - 1 for more, less in rounds),
        without_us=statistics.median(without.cpu_us),
    )


def _limits(without: Samples, limited: Samples, scripts: int) -> Limits:
    added = [
        more - less for more, less in zip(limited.cpu_us, without.cpu_us, strict=True)
    ]  # in one round, so that what the machine does beside is in both
    return Limits(
        added_us=statistics.median(added),
        gateway_us=statistics.median(limited.cpu_us),
        per_second=statistics.median(limited.per_second),
        added_p50_ms=_added_ms(without, limited, 50),
        added_p99_ms=_added_ms(without, limited, 99),
        scripts_per_answer=scripts / limited.answers,
    )


def _added_ms(less: Samples, more: Samples, percent: int) -> float:
    theirs = percentile_ms(less.first_byte_seconds, percent)
    return percentile_ms(more.first_byte_seconds, percent) - theirs
