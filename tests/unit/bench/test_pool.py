"""The simulated pool: what its workers do, and that a run repeats."""

import asyncio
import random

import pytest

from app.sizing.gpus import GPUS
from app.sizing.speed import prefill_seconds
from bench.pool.cache import BLOCK_TOKENS, PrefixCache
from bench.pool.engine import KV_POOL, WRITTEN_PER_SECOND, ScriptedEngine, reading_seconds
from bench.pool.figures import Row, as_table, short_p99_verdict
from bench.pool.routers import FewestInFlight, Gateway, RoundRobin
from bench.pool.scenarios import ONLY_SHORT, SCENARIOS
from bench.pool.simulation import Class, Load, Outcome, Plan, simulate
from bench.pool.traffic import Kind, Traffic
from tests.support.fake_time import run_in_fake_time

PLAN = Plan(Load(agents=8, short=1.0), seconds=120.0)


def engine() -> ScriptedEngine:
    return ScriptedEngine(PrefixCache(KV_POOL.blocks, ends_kept=1.0, chance=random.Random(1)))


def test_a_million_tokens_take_as_long_as_they_are_calculated_to() -> None:
    seconds = prefill_seconds(GPUS["h100"], 1, 1_000_000)
    assert seconds is not None
    assert seconds[0] < reading_seconds(1_000_000, 0) < seconds[1]
    assert reading_seconds(1_000_000, 999_000) < 1.0


def test_one_prompt_is_read_at_a_time() -> None:
    async def ask() -> None:
        loop = asyncio.get_running_loop()
        worker, traffic = engine(), Traffic(1, 0)
        began_at = loop.time()
        long = worker.submit(*traffic.go_on(traffic.long()))
        short, _ = traffic.short()
        behind = worker.submit(short, 40)
        assert (worker.running, worker.waiting) == (1, 1)
        assert await behind.first == 0
        took = reading_seconds(long.prompt.tokens, 0) + reading_seconds(short.tokens, 0)
        assert loop.time() - began_at == pytest.approx(took)
        await behind.done
        assert loop.time() - began_at == pytest.approx(took + 40 / WRITTEN_PER_SECOND)
        await long.done
        assert (worker.running, worker.kv_usage) == (0, 0.0)

    run_in_fake_time(ask())


def test_the_next_turn_of_a_conversation_is_found_but_for_what_is_new() -> None:
    async def ask() -> None:
        worker, traffic = engine(), Traffic(1, 0)
        conversation = traffic.agent()
        first = worker.submit(*traffic.go_on(conversation))
        assert await first.first == 0
        second = worker.submit(*traffic.go_on(conversation))
        found = await second.first
        assert found == second.prompt.seen_tokens
        assert first.prompt.tokens - BLOCK_TOKENS <= found < first.prompt.tokens
        await second.done

    run_in_fake_time(ask())


@pytest.mark.parametrize("router", [RoundRobin, FewestInFlight, Gateway])
def test_a_run_repeats(router: type[RoundRobin | FewestInFlight | Gateway]) -> None:
    assert simulate(PLAN, router) == simulate(PLAN, router)


def test_every_router_is_asked_the_same_short_questions() -> None:
    counts = {len(simulate(PLAN, each).classes[Kind.SHORT].first_seconds) for each in (
        RoundRobin, FewestInFlight, Gateway
    )}  # fmt: skip
    assert len(counts) == 1
    assert counts.pop() > 60


def test_the_gateway_finds_what_a_worker_has_read() -> None:
    outcomes = {router: simulate(PLAN, router) for router in (RoundRobin, Gateway)}
    assert outcomes[Gateway].hit_rate > 0.95 > 0.75 > outcomes[RoundRobin].hit_rate
    assert outcomes[Gateway].reading_seconds < outcomes[RoundRobin].reading_seconds


def outcome(short_seconds: float) -> Outcome:
    classes = {kind: Class() for kind in Kind}
    classes[Kind.SHORT] = Class([0.01] * 98 + [short_seconds] * 2, refused=3)
    return Outcome(classes, found_tokens=900, seen_tokens=1_000, reading_seconds=1.5)


def test_the_table_tells_each_scenario_once() -> None:
    rows = [Row("busy", "round robin", outcome(0.5)), Row("busy", "gateway", outcome(0.1))]
    table = as_table(rows).splitlines()
    assert [line.split()[0] for line in table[1:]] == ["busy", "round", "gateway"]
    assert table[-1].split() == [
        "gateway", "90.0%", "1.50", "100", "0.01", "0.10", "0", "-", "-", "0", "-", "-", "3",
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "verdict"), [(0.2, "ok"), (0.21, "MISSED")])
def test_short_questions_may_take_twice_as_long_as_alone(seconds: float, verdict: str) -> None:
    assert short_p99_verdict(outcome(0.1), outcome(seconds)).endswith(verdict)


def test_short_questions_take_no_longer_beside_a_million_tokens_where_pools_are_by_length() -> None:
    """What `python -m bench.pool` tells of half an hour, in five minutes of traffic."""
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    alone, beside = (
        simulate(scenarios[name].plan(300.0, seed=1), Gateway) for name in (ONLY_SHORT, "pools")
    )
    assert beside.classes[Kind.LONG].first_seconds
    assert short_p99_verdict(alone, beside).endswith("ok")
