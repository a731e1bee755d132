"""What an answer teaches, and which answers teach nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.errors import ClientDisconnected
from app.gateway.expect import Learned
from app.gateway.learn import learn
from app.gateway.meter import Meter
from app.protocol.answer import AnswerReader
from app.protocol.prefix import PrefixMemory
from app.protocol.request import Json
from app.protocol.rules import AnswerRules, Start
from app.protocol.token_estimate import TokenEstimates
from app.settings import WorkerSettings
from app.telemetry.metrics import Metrics
from app.telemetry.pool_metrics import AFFINITY_RESULTS
from app.upstream.endpoint import Endpoint
from app.upstream.load import Demand
from app.upstream.placement import Option
from app.upstream.reading import work_of
from app.upstream.turn import Turn
from tests.support.workers_asked import pool_of
from tests.unit.gateway.preparing import CALLER, PRINCIPAL, REQUEST, Counting, learned, run

WORDS: Json = {"role": "user", "content": "word " * 20_000}
LONG = replace(REQUEST, messages=(WORDS,), body_bytes=100_100)
DELTA = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


def usage(prompt_tokens: int, cached_tokens: int | None = None) -> Json:
    details = None if cached_tokens is None else {"cached_tokens": cached_tokens}
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": 1}
    return {"choices": [], "usage": counts | {"prompt_tokens_details": details}}


def answered(*chunks: Json, done: bool = True) -> AnswerReader:
    reader = AnswerReader(AnswerRules(), start=Start.ANSWER)
    for chunk in chunks:
        reader.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    if done:
        reader.feed(b"data: [DONE]\n\n")
    return reader


def endpoint(number: int) -> Endpoint:
    settings = {"url": f"http://10.0.0.{number}:8000"}
    return Endpoint(WorkerSettings.model_validate(settings))


def turn_on(worker: Endpoint) -> Turn:
    option = Option(worker, Demand(1_000, 1_000), 0, 0.0, False, "rendezvous")
    return Turn(option, lambda: CALLER.started_at, lambda _: None)


class Taught:
    """One prompt's answers, and what is known after them."""

    def __init__(self) -> None:
        self.learned = learned()
        self.metrics = Metrics(CollectorRegistry())
        self.worker = endpoint(1)

    async def by(
        self, *readers: AnswerReader, worker: Endpoint | None = None, **fields: Any
    ) -> None:
        meter = Meter(CALLER, lambda: CALLER.started_at)
        meter.principal = PRINCIPAL
        workers = Counting(context_tokens=1_000_000)
        meter.prepared = await run(replace(LONG, **fields), workers, knowing=self.learned)
        meter.readers = list(readers)
        meter.turns = [turn_on(worker or self.worker) for _ in readers]
        meter.end(ClientDisconnected("gone") if not readers else None)
        learn(meter, self.learned, self.metrics)

    async def estimate(self) -> int:
        workers = Counting(context_tokens=1_000_000)
        return (await run(LONG, workers, knowing=self.learned)).prompt_tokens

    async def known(self) -> set[str]:
        """The workers that are known to have read the prompt."""
        prepared = await run(LONG, Counting(context_tokens=1_000_000), knowing=self.learned)
        assert prepared.estimate is not None
        return {name for name, part in prepared.estimate.known.items() if part.kept == 1}

    def counted(self, name: str) -> float:
        shown = self.metrics.render()[0].decode().splitlines()
        return next(float(line.split()[-1]) for line in shown if line.startswith(f"{name} "))

    def looked_up(self) -> dict[str, float]:
        name = 'gateway_affinity_lookups_total{{result="{}"}}'
        counts = {each: self.counted(name.format(each)) for each in AFFINITY_RESULTS}
        return {each: count for each, count in counts.items() if count}

    @property
    def ratios(self) -> float:
        return self.counted("gateway_prompt_estimate_ratio_count")

    @property
    def kept_trust(self) -> float:
        return self.prefixes.trust_in(self.worker.name).kept

    @property
    def prefixes(self) -> PrefixMemory:
        return self.learned.prefixes


@pytest.fixture
def taught() -> Taught:
    return Taught()


async def test_an_answer_corrects_the_estimate_and_makes_its_prompt_warm(taught: Taught) -> None:
    before = await taught.estimate()
    for _ in range(2):
        await taught.by(answered(DELTA, FINISH, usage(2 * before, 2 * before)))
    assert await taught.estimate() == pytest.approx(2 * before, rel=0.01)
    assert len(taught.prefixes) > 0
    assert taught.ratios == 2


async def test_only_the_first_try_counts(taught: Taught) -> None:
    before = await taught.estimate()
    first = answered(FINISH, usage(before))
    for _ in range(5):
        await taught.by(first, answered(DELTA, FINISH, usage(3 * before)))
    assert await taught.estimate() == pytest.approx(before, rel=0.01)
    assert taught.ratios == 5


async def test_a_worker_that_does_not_count_teaches_no_estimate(taught: Taught) -> None:
    before = await taught.estimate()
    await taught.by(answered(DELTA, FINISH))
    assert await taught.estimate() == before
    assert taught.ratios == 0
    assert len(taught.prefixes) > 0


async def test_a_client_that_leaves_in_the_prefill_leaves_its_prompt_cold(taught: Taught) -> None:
    await taught.by()
    await taught.by(answered(ROLE, done=False))
    assert len(taught.prefixes) == 0


async def test_a_client_that_leaves_after_the_first_token_does_not(taught: Taught) -> None:
    await taught.by(answered(DELTA, done=False))
    assert len(taught.prefixes) > 0


async def test_trust_follows_what_workers_report_of_their_caches(taught: Taught) -> None:
    tokens = await taught.estimate()
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)))
    assert taught.kept_trust == 1.0  # nothing was expected yet
    await taught.by(answered(DELTA, FINISH, usage(tokens, None)))
    fallen = taught.kept_trust
    assert fallen < 1.0
    await taught.by(answered(DELTA, FINISH, usage(tokens, tokens - 10)))
    assert taught.kept_trust > fallen


async def test_a_worker_that_had_nothing_of_it_has_read_it_now(taught: Taught) -> None:
    tokens = await taught.estimate()
    follow_up = (WORDS, {"role": "user", "content": "Why?"})
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)))
    assert await taught.known() == {taught.worker.name}
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)), messages=follow_up)
    assert await taught.known() == set()  # it was not there, so it is not expected again


async def test_what_one_worker_read_is_not_expected_of_another(taught: Taught) -> None:
    tokens, other = await taught.estimate(), endpoint(2)
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)))
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)), worker=other)
    assert await taught.known() == {taught.worker.name, other.name}
    assert taught.kept_trust == 1.0
    assert taught.prefixes.trust_in(other.name).kept == 1.0


async def test_the_worker_of_the_first_try_has_read_the_prompt(taught: Taught) -> None:
    tokens, other = await taught.estimate(), endpoint(2)
    await taught.by(answered(FINISH, usage(tokens, 0)), answered(DELTA, FINISH), worker=other)
    assert await taught.known() == {other.name}


async def test_a_worker_that_was_restarted_meanwhile_has_nothing(taught: Taught) -> None:
    tokens = await taught.estimate()
    meter = Meter(CALLER, lambda: CALLER.started_at)
    meter.principal = PRINCIPAL
    meter.prepared = await run(LONG, Counting(context_tokens=1_000_000), knowing=taught.learned)
    meter.readers = [answered(DELTA, FINISH, usage(tokens, 0))]
    meter.turns = [turn_on(taught.worker)]
    taught.worker.renew()
    learn(meter, taught.learned, taught.metrics)
    assert await taught.known() == set()


async def test_of_a_worker_that_was_removed_nothing_is_remembered(taught: Taught) -> None:
    """It goes with its last request, and that one is learned from after it: whatever comes under
    its name has an empty cache."""
    tokens = await taught.estimate()
    pool = pool_of(None)
    (leaving,) = pool.endpoints
    meter = Meter(CALLER, lambda: CALLER.started_at)
    meter.principal = PRINCIPAL
    meter.prepared = await run(LONG, Counting(context_tokens=1_000_000), knowing=taught.learned)
    meter.readers = [answered(DELTA, FINISH, usage(tokens, 0))]
    turn = turn_on(leaving)
    meter.turns = [turn]
    pool.remove(leaving)
    turn.close()
    pool.released(leaving)
    assert pool.endpoints == []
    learn(meter, taught.learned, taught.metrics)
    assert await taught.known() == set()


# -- what is counted of caches


@pytest.mark.parametrize(
    ("cached_share", "result"), [(1, "hit"), (0.85, "hit"), (0.5, "partial"), (0, "miss")]
)
async def test_what_was_found_is_counted_by_what_was_known(
    cached_share: float, result: str, taught: Taught
) -> None:
    tokens = await taught.estimate()
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)))
    assert taught.looked_up() == {"none": 1}
    cached = int(cached_share * tokens)
    await taught.by(answered(DELTA, FINISH, usage(tokens, cached)))
    assert taught.looked_up() == {"none": 1, result: 1}


async def test_a_prompt_that_went_to_another_worker_than_its_own_is_a_miss(taught: Taught) -> None:
    tokens = await taught.estimate()
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)))
    await taught.by(answered(DELTA, FINISH, usage(tokens, 0)), worker=endpoint(2))
    assert taught.looked_up() == {"none": 1, "miss": 1}


async def test_what_a_cache_saved_is_told_in_the_workers_own_time(taught: Taught) -> None:
    saved = "gateway_prefill_seconds_saved_total"
    tokens = await taught.estimate()
    await taught.by(answered(DELTA, FINISH, usage(tokens, 5_000)))
    assert taught.counted(saved) == 0  # nobody knows how fast it reads
    load = taught.worker.load
    load.began(load.reserve(Demand(50_000, 0), 0.0), 50.0)
    await taught.by(answered(DELTA, FINISH, usage(tokens, 5_000)))
    assert taught.counted(saved) == pytest.approx(50 * work_of(5_000) / work_of(50_000))


async def test_a_count_that_was_cut_short_says_nothing_about_caches(taught: Taught) -> None:
    """vLLM's running counts have no cached tokens: those come with the last one."""
    tokens = await taught.estimate()
    for _ in range(3):
        await taught.by(answered(DELTA | usage(tokens) | {"choices": DELTA["choices"]}, done=False))
    assert taught.kept_trust == 1.0


async def test_a_short_prompt_teaches_nothing(taught: Taught) -> None:
    before = await taught.estimate()
    await taught.by(answered(DELTA, FINISH, usage(900)), messages=REQUEST.messages, body_bytes=60)
    assert await taught.estimate() == before
    assert (len(taught.prefixes), taught.ratios) == (0, 0)


async def test_a_defect_costs_no_request_its_end(
    taught: Taught, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(TokenEstimates):
        def learn(self, *_: object) -> None:
            raise ZeroDivisionError

    taught.learned = Learned(Broken(max_keys=1), taught.prefixes)
    await taught.by(answered(DELTA, FINISH, usage(100)))
    assert "learning_failed" in capsys.readouterr().out
