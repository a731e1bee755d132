"""`gateway smoke` on a deployment that breaks, or that is worth a warning."""

from dataclasses import replace

import pytest

from app.smoke import patience
from app.smoke.document import QUESTION as NEEDLE_QUESTION
from app.smoke.first_steps import QUESTION, SUMMARY_QUESTION, TOOL_QUESTION
from tests.integration.cli.smoke_walks import (
    CLOSED_SECONDS,
    SHORT,
    all_steps,
    instead,
    refuse,
    smoke,
    steps,
)
from tests.support.answers import Answer, Break, End, Reply, ToolCall, vllm_error
from tests.support.gateway import StartGateway
from tests.support.reading_worker import ReadingWorker, Spoil

# -- where it breaks


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
        ("FIRST_BYTE_SECONDS", 3.0),  # the other answers take less, on a busy machine, too
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
        return replace(answer, cached_tokens=None, prefill_seconds=2.0 if cold else 0.0)

    reader.spoil = unreported
    found = await steps(reader.url, "--from", "1k", "--max-context", "1k")
    (rung,) = [step for step in found if step["step"] == "1k"]
    assert "--enable-prompt-tokens-details" in rung["advice"]
