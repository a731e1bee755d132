"""What is run, and what it is held against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.settings import WorkerSettings
from bench.pool.routers import (
    ByConversation,
    FewestInFlight,
    Gateway,
    Replicas,
    RoundRobin,
    Router,
)
from bench.pool.simulation import Load, Plan

AGENTS = 60  # of 130,000 tokens on average: half of what eight H100 have room for
SHORT_PER_SECOND = 12.0
LONG_PER_SECOND = 1 / 150  # each is read for 160 s to 200 s: one worker of eight is always busy
LONG_WORKERS = 2  # of the pools by length

Making = Callable[[Sequence[WorkerSettings]], Router]

ONLY_SHORT = "short"


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    load: Load
    long_workers: int | None = None
    ends_kept: float = 1.0

    def plan(self, seconds: float, seed: int) -> Plan:
        plan = Plan(self.load, seconds, ends_kept=self.ends_kept, seed=seed)
        return plan if self.long_workers is None else plan.with_long_workers(self.long_workers)


_AGENTS = Load(AGENTS, SHORT_PER_SECOND)
_ALL = Load(AGENTS, SHORT_PER_SECOND, LONG_PER_SECOND)

SCENARIOS = (
    Scenario(ONLY_SHORT, "short questions alone", Load(0, SHORT_PER_SECOND)),
    Scenario("agents", "with the agents", _AGENTS),
    Scenario("long", "and prompts of a million", _ALL),
    Scenario("pools", "the same, two workers for long ones", _ALL, long_workers=LONG_WORKERS),
    Scenario(
        "checkpoints", "the same, a third of checkpoints kept", _ALL,
        long_workers=LONG_WORKERS, ends_kept=0.3,
    ),
)  # fmt: skip

ROUTERS: dict[str, Making] = {
    "round robin": RoundRobin,
    "fewest in flight": FewestInFlight,
    "gateway": Gateway,
    "two, by conversation": lambda workers: ByConversation([Gateway(workers), Gateway(workers)]),
    "two, by chance": lambda workers: Replicas([Gateway(workers), Gateway(workers)]),
}
