"""`gateway smoke` on a good deployment (a bare worker, or the gateway in front), and Ctrl-C."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from app.smoke.document import QUESTION as NEEDLE_QUESTION
from tests.integration.cli.smoke_walks import CLOSED_SECONDS, SHORT, instead, smoke, steps, walked
from tests.support.answers import Answer, Reply
from tests.support.conditions import eventually
from tests.support.gateway import StartGateway
from tests.support.reading_worker import ReadingWorker
from tests.support.serving import GATEWAY

FIRST_STEPS = ["reach", "question", "sampling", "thought", "tool call", "summary"]
STARTED_SECONDS = 60.0  # only spent on failure


async def test_a_bare_worker_is_walked_from_a_question_to_its_context(
    reader: ReadingWorker,
) -> None:
    reader.max_model_len = 4_096
    found = await steps(f"{reader.url}/v1", "--from", "1k", "--max-context", "8k")
    statuses = {step["step"]: step["status"] for step in found}
    assert list(statuses)[:9] == [*FIRST_STEPS, "1k", "2k", "4k"]
    assert set(list(statuses.values())[:9]) == {"ok"}
    assert {statuses[name] for name in ("8k", "16k", "1M")} == {"skipped"}
    assert found[0]["figures"] == {
        "model": "empero-ai/Qwythos-9B-Claude-Mythos-5-1M",
        "gateway": False,
        "context_tokens": 4_096,
    }
    reasons = {step["step"]: step["detail"] for step in found}
    assert reasons["8k"] == "beyond the context of 4,096 tokens"
    assert reasons["16k"] == "beyond --max-context 8,192"


async def test_a_rung_says_what_was_counted_found_and_cached(reader: ReadingWorker) -> None:
    found = {step["step"]: step for step in await steps(reader.url, *SHORT)}
    figures = found["2k"]["figures"]
    assert figures["asked_tokens"] == 2_048
    assert abs(figures["prompt_tokens"] - 2_048) < 0.05 * 2_048  # the summary told the length
    assert figures["needle_found"] is True
    assert 0.1 <= figures["needle_depth"] <= 0.9
    assert figures["cached_tokens"] > 0.9 * figures["prompt_tokens"]
    first, second = reader.requests[-2:]
    assert first.json == second.json


async def test_a_prompt_that_is_cached_from_the_third_time_on_is_cached(
    reader: ReadingWorker,
) -> None:
    times: Counter[int] = Counter()

    def lazily(question: str, answer: Answer) -> Reply:
        times[answer.prompt_tokens] += 1
        return answer if times[answer.prompt_tokens] > 2 else replace(answer, cached_tokens=0)

    reader.spoil = lazily
    found = await steps(reader.url, "--from", "1k", "--max-context", "2k")
    rungs = [step for step in found if step["step"] in ("1k", "2k")]
    assert [rung["status"] for rung in rungs] == ["ok", "ok"]
    assert all(rung["figures"]["cached_tokens"] > 900 for rung in rungs)


async def test_no_prompt_is_read_a_third_time_where_nothing_is_ever_cached(
    reader: ReadingWorker,
) -> None:
    reader.spoil = instead(NEEDLE_QUESTION, cached_tokens=0)
    await steps(reader.url, *SHORT)
    asked = Counter(request.json["messages"][0]["content"] for request in reader.requests[4:])
    assert sorted(asked.values()) == [2, 2, 3]


async def test_two_walks_share_no_prompt_and_a_seed_repeats_one(reader: ReadingWorker) -> None:
    def documents() -> list[str]:
        contents = [request.json["messages"][0]["content"] for request in reader.requests]
        reader.requests.clear()
        return [content for content in contents if content.endswith(NEEDLE_QUESTION)]

    walk = (reader.url, "--from", "1k", "--max-context", "1k", "--json")
    unseeded = []
    for _ in range(2):
        seed = walked(await smoke(*walk))[0]["seed"]
        unseeded.append((seed, documents()))
    (seed, first), (_, second) = unseeded
    assert first != second
    await smoke(*walk, "--seed", seed)
    assert documents() == first


async def test_a_gateway_is_known_hides_thoughts_and_warms_cold_sampling(
    reader: ReadingWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(reader)
    result = await smoke(gateway.url, *SHORT, "--json", key=gateway.key)
    found = {step["step"]: step for step in walked(result)}
    assert found["reach"]["figures"] == {
        "model": "qwythos",
        "gateway": True,
        "context_tokens": 32_768,  # which it had to be asked for
    }
    assert "raises temperature 0 (temperature=0.4)" in found["sampling"]["detail"]
    assert found["thought"]["detail"].startswith("hidden: 2 tokens")
    assert [found[name]["status"] for name in (*FIRST_STEPS, "1k", "2k", "4k")] == ["ok"] * 9
    assert gateway.key not in result.output


@pytest.mark.parametrize(
    ("policy", "step", "words"),
    [
        ({"reasoning": "visible"}, "thought", "split off, and shown"),
        ({"cold_sampling": "refuse"}, "sampling", "refuses temperature 0"),
        ({"cold_sampling": "pass"}, "sampling", "temperature 0 goes through"),
    ],
)
async def test_what_a_keys_policy_says_is_told(
    reader: ReadingWorker,
    start_gateway: StartGateway,
    policy: dict[str, str],
    step: str,
    words: str,
) -> None:
    gateway = await start_gateway(reader)
    key = await gateway.issue_key(**policy)
    found = {step["step"]: step for step in await steps(gateway.url, *SHORT, key=key)}
    assert words in found[step]["detail"]


async def test_a_context_that_nobody_tells_is_walked_as_far_as_allowed(
    reader: ReadingWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(reader, workers=[reader.settings() | {"max_model_len": 2_100}])
    found = await steps(gateway.url, *SHORT, key=gateway.key)
    assert found[0]["figures"]["context_tokens"] == 2_100
    by_name = {step["step"]: step for step in found}
    assert by_name["2k"]["figures"]["asked_tokens"] < 2_100 - 2_100 // 8
    assert by_name["4k"]["status"] == "skipped"


async def test_an_inline_worker_is_walked_where_that_is_expected() -> None:
    def inline(_: str, answer: Answer) -> Reply:
        return replace(answer, inline=True)

    async with ReadingWorker(spoil=inline) as worker:
        found = await steps(worker.url, *SHORT, "--thoughts", "inline")
        assert {step["status"] for step in found} == {"ok", "skipped"}
        broken = await smoke(worker.url, *SHORT)
    assert broken.exit_code == 1
    assert "leaves the thought in the text" in broken.stdout
    assert "--reasoning-parser qwen3" in broken.stdout


# -- leaving


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        str(GATEWAY),
        "smoke",
        *arguments,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):  # it has ended
            running.kill()
        await running.communicate()


async def test_ctrl_c_ends_the_running_request(reader: ReadingWorker) -> None:
    reader.spoil = instead(NEEDLE_QUESTION, prefill_seconds=600.0)
    async with process(reader.url, *SHORT) as running:
        await eventually(lambda: len(reader.requests) == 5, STARTED_SECONDS, "the first rung")
        running.send_signal(signal.SIGINT)
        await reader.closed(reader.requests[-1], within=CLOSED_SECONDS)
        assert await running.wait() == 1
        out, error = await running.communicate()
    assert b"Aborted!" in error
    assert b"Traceback" not in error
    assert b"ok       summary" in out
