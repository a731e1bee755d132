"""`gateway smoke` against a bare worker and against the real gateway in front of it."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.smoke import patience
from app.smoke.document import QUESTION as NEEDLE_QUESTION
from app.smoke.first_steps import QUESTION, SUMMARY_QUESTION, TOOL_QUESTION
from tests.integration.cli.answered import refused
from tests.support.answers import Answer, Break, End, Refusal, Reply, ToolCall, vllm_error
from tests.support.conditions import eventually
from tests.support.gateway import StartGateway
from tests.support.reading_worker import ReadingWorker, Spoil
from tests.support.serving import GATEWAY

SHORT = ("--from", "1k", "--max-context", "4k", "--seed", "tests")
FIRST_STEPS = ["reach", "question", "sampling", "thought", "tool call", "summary"]
SECRET = "sk-qw-a-secret-of-the-tests"
CLOSED_SECONDS = 5.0  # this and the next are only spent on failure
STARTED_SECONDS = 60.0


async def smoke(*arguments: str, key: str | None = None) -> Result:
    environment = {} if key is None else {"GATEWAY_SMOKE_API_KEY": key}
    return await asyncio.to_thread(CliRunner().invoke, main, ["smoke", *arguments], env=environment)


async def steps(*arguments: str, key: str | None = None) -> list[dict[str, Any]]:
    """Of a walk to its end."""
    return walked(await smoke(*arguments, "--json", key=key))


def walked(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return all_steps(result)


def all_steps(result: Result) -> list[dict[str, Any]]:
    """A gateway in this process writes its log between them."""
    lines = (line for line in result.stdout.splitlines() if line.startswith("{"))
    return [json.loads(line) for line in lines]


@pytest.fixture
async def reader() -> AsyncIterator[ReadingWorker]:
    async with ReadingWorker() as worker:
        yield worker


# -- a good deployment


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


# -- where it breaks


def instead(question: str, **changes: Any) -> Spoil:
    """Of the answer to this question."""

    def spoil(asked: str, answer: Answer) -> Reply:
        return replace(answer, **changes) if asked == question else answer

    return spoil


def refuse(question: str, refusal: Refusal) -> Spoil:
    return lambda asked, answer: refusal if asked == question else answer


CIRCLES = ("and so on ",) * 1_000


@pytest.mark.parametrize(
    ("spoil", "step", "advice"),
    [
        (refuse(QUESTION, vllm_error(404, "no")), "question", "--model names another"),
        (instead(QUESTION, content=(" ",)), "question", "--reasoning-parser"),
        (instead(QUESTION, content=(), finish="length"), "question", "without end"),
        (instead(QUESTION, content=("</think> Paris",)), "thought", "--reasoning-parser"),
        (instead(QUESTION, reasoning=()), "thought", "--reasoning-parser"),
        (refuse(QUESTION, vllm_error(500, "EngineCore died")), "question", "gpu-memory-util"),
        (
            refuse(TOOL_QUESTION, vllm_error(400, '"auto" requires --tool-call-parser to be set')),
            "tool call",
            "--enable-auto-tool-choice",
        ),
        (
            instead(TOOL_QUESTION, tool_calls=(), content=("<tool_call>\n<function=get_weather>",)),
            "tool call",
            "--tool-call-parser",
        ),
        (
            instead(TOOL_QUESTION, tool_calls=(ToolCall("get_weather", ('{"city": "Os',)),)),
            "tool call",
            "--tool-call-parser",
        ),
        (instead(TOOL_QUESTION, tool_calls=(ToolCall("rm", ("{}",)),)), "tool call", "parser"),
        (instead(SUMMARY_QUESTION, finish="length"), "summary", "without end"),
        (instead(SUMMARY_QUESTION, content=CIRCLES), "summary", "no temperature of 0.3"),
        (refuse(NEEDLE_QUESTION, vllm_error(503, "queue full")), "1k", "--max-num-queued-reqs"),
        (refuse(NEEDLE_QUESTION, vllm_error(413, "too large")), "1k", "MAX_BODY_BYTES"),
        (refuse(NEEDLE_QUESTION, vllm_error(429, "slow down")), "1k", "--tpm"),
        (instead(NEEDLE_QUESTION, prompt_tokens=300), "1k", "cut prompts"),
        (instead(NEEDLE_QUESTION, breaks=Break(End.RESET)), "1k", "may have died"),
        (instead(NEEDLE_QUESTION, breaks=Break(End.CLOSE, 2)), "1k", "may have died"),
        (instead(NEEDLE_QUESTION, breaks=Break(End.ERROR)), "1k", "--gpu-memory-utilization"),
    ],
)
async def test_it_stops_where_it_breaks_with_advice(
    reader: ReadingWorker, spoil: Spoil, step: str, advice: str
) -> None:
    reader.spoil = spoil
    result = await smoke(reader.url, *SHORT, "--json")
    assert result.exit_code == 1, result.output
    last = all_steps(result)[-1]
    assert (last["step"], last["status"]) == (step, "failed")
    assert advice in last["advice"]


async def test_a_summary_may_fail_once(reader: ReadingWorker) -> None:
    lengths = iter(["length", "stop"])

    def spoil(question: str, answer: Answer) -> Reply:
        return replace(answer, finish=next(lengths)) if question == SUMMARY_QUESTION else answer

    reader.spoil = spoil
    found = {step["step"]: step for step in await steps(reader.url, *SHORT)}
    assert found["summary"]["status"] == "warning"
    assert found["4k"]["status"] == "ok"


async def test_a_context_shorter_than_was_said_is_found(reader: ReadingWorker) -> None:
    def shorter(question: str, answer: Answer) -> Reply:
        if answer.prompt_tokens > 1_500 and question == NEEDLE_QUESTION:
            return vllm_error(400, "This model's maximum context length is 1500 tokens.")
        return answer

    reader.spoil = shorter
    result = await smoke(reader.url, *SHORT)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-2].split()[:2] == ["failed", "2k"]
    assert "raise --max-model-len" in result.stdout.splitlines()[-1]


async def test_a_body_that_the_gateway_refuses_names_its_setting(
    reader: ReadingWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(reader, max_body_bytes=12_000)
    result = await smoke(gateway.url, *SHORT, key=gateway.key)
    assert result.exit_code == 1
    assert "GATEWAY_MAX_BODY_BYTES" in result.stdout


async def test_a_prefill_without_end_is_given_up(
    reader: ReadingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.spoil = instead(NEEDLE_QUESTION, breaks=Break(End.HANG))
    for name, value in (
        ("FIRST_BYTE_SECONDS", 1.0),
        ("DECODE_FLOOR_TOKENS_PER_SECOND", 1e9),
    ):
        monkeypatch.setattr(patience, name, value)
    result = await smoke(reader.url, *SHORT, "--prefill-floor", "1000000")
    assert result.exit_code == 1
    assert "failed   1k" in result.stdout
    assert "`gateway plan` says how long it should take" in result.stdout
    await reader.closed(reader.requests[-1], within=CLOSED_SECONDS)


# -- what is worth a warning


@pytest.mark.parametrize(
    ("spoil", "step", "words"),
    [
        (instead(QUESTION, content=("London.",)), "question", "not the capital of France"),
        (instead(TOOL_QUESTION, tool_calls=(), finish="stop"), "tool call", "none was made"),
        (instead(NEEDLE_QUESTION, content=("No idea.",)), "1k", "the words were not found"),
        (instead(NEEDLE_QUESTION, cached_tokens=None), "1k", "no cached tokens"),
        (instead(NEEDLE_QUESTION, usage=False), "1k", "no usage is reported"),
    ],
)
async def test_a_small_model_and_a_missing_report_are_warnings_unless_strict(
    reader: ReadingWorker, spoil: Spoil, step: str, words: str
) -> None:
    reader.spoil = spoil
    found = {step["step"]: step for step in await steps(reader.url, *SHORT)}
    assert found[step]["status"] == "warning"
    assert words in found[step]["detail"]
    assert found[step]["advice"]
    assert found["4k"]["status"] in ("ok", "warning")
    strict = await smoke(reader.url, *SHORT, "--strict", "--json")
    assert strict.exit_code == 1
    assert all_steps(strict)[-1]["step"] == step


async def test_a_model_that_has_nothing_to_say_of_a_long_text_is_a_warning(
    reader: ReadingWorker, start_gateway: StartGateway
) -> None:
    """The gateway refuses an empty answer, after a second try."""
    reader.spoil = instead(NEEDLE_QUESTION, content=())
    gateway = await start_gateway(reader)
    found = {step["step"]: step for step in await steps(gateway.url, *SHORT, key=gateway.key)}
    assert found["4k"]["status"] == "warning"
    assert "empty_answer" in found["4k"]["detail"]


async def test_a_cache_that_works_unreported_is_told_from_none(reader: ReadingWorker) -> None:
    seen: set[int] = set()

    def unreported(question: str, answer: Answer) -> Reply:
        if question != NEEDLE_QUESTION:
            return answer
        cold = answer.prompt_tokens not in seen
        seen.add(answer.prompt_tokens)
        return replace(answer, cached_tokens=None, prefill_seconds=0.5 if cold else 0.0)

    reader.spoil = unreported
    found = await steps(reader.url, "--from", "1k", "--max-context", "1k")
    (rung,) = [step for step in found if step["step"] == "1k"]
    assert "--enable-prompt-tokens-details" in rung["advice"]


# -- where there is nothing to walk


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("ftp://host",), "URL must be like http://10.0.0.5:8000"),
        (("localhost:8000",), "URL must be like "),
        (("http://[bad",), "URL must be like "),
        (("http://user:pw@host",), "URL: only scheme, host, port and path"),
        (("http://host", "--from", "16"), "--from: between 1024 and 1M"),
        (("http://host", "--api-key", "a\nb"), "the API key is empty, or has characters"),
        (("http://host", "--api-key", ""), "the API key is empty, or has characters"),
        (("http://host", "--api-key-file", "/no/such"), "--api-key-file: cannot read /no/such: "),
        (("http://host", "--api-key", "a", "--api-key-file", "b"), "--api-key and --api-key-file"),
    ],
)
async def test_what_is_wrong_is_named_in_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = await smoke(*arguments)
    assert result.exit_code == 2
    assert refused(result).startswith(line)


async def test_a_server_that_is_not_there(unused_port: int) -> None:
    result = await smoke(f"http://127.0.0.1:{unused_port}")
    assert result.exit_code == 2
    assert refused(result).endswith("is the URL right, and the server up?")


async def test_a_key_that_is_not_known(start_gateway: StartGateway, reader: ReadingWorker) -> None:
    gateway = await start_gateway(reader)
    for key in (None, SECRET):
        result = await smoke(gateway.url, key=key)
        assert result.exit_code == 2
        assert "GATEWAY_SMOKE_API_KEY, --api-key-file or --api-key" in refused(result)
        assert SECRET not in result.output


async def test_a_model_that_is_not_there_is_answered_with_those_that_are(
    reader: ReadingWorker,
) -> None:
    result = await smoke(reader.url, "--model", "other")
    assert result.exit_code == 2
    assert refused(result).endswith("none of those there: empero-ai/Qwythos-9B-Claude-Mythos-5-1M")


async def test_a_key_may_come_from_a_file(
    reader: ReadingWorker, start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway(reader)
    file = tmp_path / "key"
    file.write_text(f"{gateway.key}\n")
    result = await smoke(gateway.url, *SHORT, "--api-key-file", str(file))
    assert result.exit_code == 0, result.output
    assert gateway.key not in result.output


async def test_a_key_that_a_server_repeats_is_not_printed(reader: ReadingWorker) -> None:
    reader.spoil = refuse(QUESTION, vllm_error(401, f"Incorrect API key provided: {SECRET}"))
    result = await smoke(reader.url, key=SECRET)
    assert result.exit_code == 1
    assert "Incorrect API key provided: [key]" in result.stdout
    assert SECRET not in result.output


async def test_a_server_cannot_steer_the_terminal(reader: ReadingWorker) -> None:
    reader.spoil = refuse(QUESTION, vllm_error(500, "\x1b[2J\x1b[31mgone\u202e"))
    for as_json in ((), ("--json",)):
        result = await smoke(reader.url, *as_json)
        assert result.exit_code == 1
        assert "gone" in result.stdout
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout


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
        with suppress(ProcessLookupError):
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
