"""How much of each scenario is asked. The whole takes less than four minutes, `quick` one."""

from dataclasses import dataclass, replace

from bench.scenarios import LARGE, PACED, STREAM, UNARY, Scenario

BESIDE = "beside"


@dataclass(frozen=True)
class Plan:
    """One round is `requests` on `connections` for the CPU, then `alone_requests` on one
    connection for the time to the first byte; 0 takes that from the round itself. `limited` asks
    the gateway with limits in Redis, too."""

    scenario: Scenario
    rounds: int
    connections: int
    requests: int
    alone_requests: int = 0
    spread_seconds: float = 0.0  # over which the connections begin
    limited: bool = False


@dataclass(frozen=True)
class BesidePlan:
    """Small requests at a steady rate, beside large bodies that follow one another."""

    seconds: float
    large_connections: int = 2
    small_connections: int = 8
    pause_seconds: float = 0.05


PLANS = (
    Plan(UNARY, rounds=7, connections=16, requests=2000, alone_requests=150, limited=True),
    # nginx costs half where it runs on the worker's CPU and finds many events at a time: the
    # scheduler's choice, round by round.
    Plan(STREAM, rounds=13, connections=16, requests=300, alone_requests=50, limited=True),
    # 200 at a time. They begin one after another, or the first byte would time a stampede; 5.25 ms
    # apart, as any divisor of the pace would let their events come in a few large flocks.
    Plan(PACED, rounds=3, connections=200, requests=200, spread_seconds=1.05),
    Plan(LARGE, rounds=7, connections=2, requests=12, alone_requests=5),
)
BESIDE_PLAN = BesidePlan(seconds=8.0)


def plans(*, quick: bool) -> tuple[Plan, ...]:
    if not quick:
        return PLANS
    return tuple(
        replace(plan, rounds=1)
        if plan.scenario is PACED
        else replace(
            plan,
            rounds=3,
            requests=plan.requests // 3,
            alone_requests=plan.alone_requests // 3,
        )
        for plan in PLANS
    )


def beside_plan(*, quick: bool) -> BesidePlan:
    return replace(BESIDE_PLAN, seconds=3.0) if quick else BESIDE_PLAN
