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
from app.telemetry.metrics import Metrics
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


class Taught:
    """One prompt's answers, and what is known after them."""

    def __init__(self) -> None:
        self.learned = learned()
        self.metrics = Metrics(CollectorRegistry())

    async def by(self, *readers: AnswerReader, **fields: Any) -> None:
        meter = Meter(CALLER, lambda: CALLER.started_at)
        meter.principal = PRINCIPAL
        workers = Counting(context_tokens=1_000_000)
        meter.prepared = await run(replace(LONG, **fields), workers, knowing=self.learned)
        meter.readers = list(readers)
        meter.end(ClientDisconnected("gone") if not readers else None)
        learn(meter, self.learned, self.metrics)

    async def estimate(self) -> int:
        workers = Counting(context_tokens=1_000_000)
        return (await run(LONG, workers, knowing=self.learned)).prompt_tokens

    @property
    def ratios(self) -> float:
        shown = self.metrics.render()[0].decode().splitlines()
        name = "gateway_prompt_estimate_ratio_count "
        return next(float(line.removeprefix(name)) for line in shown if line.startswith(name))

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
    assert taught.prefixes.kept_trust == 1.0  # nothing was expected yet
    await taught.by(answered(DELTA, FINISH, usage(tokens, None)))
    fallen = taught.prefixes.kept_trust
    assert fallen < 1.0
    await taught.by(answered(DELTA, FINISH, usage(tokens, tokens - 10)))
    assert taught.prefixes.kept_trust > fallen


async def test_a_count_that_was_cut_short_says_nothing_about_caches(taught: Taught) -> None:
    """vLLM's running counts have no cached tokens: those come with the last one."""
    tokens = await taught.estimate()
    for _ in range(3):
        await taught.by(answered(DELTA | usage(tokens) | {"choices": DELTA["choices"]}, done=False))
    assert taught.prefixes.kept_trust == 1.0


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
