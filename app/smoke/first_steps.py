"""What is asked before any long prompt."""

from collections.abc import Awaitable, Callable, Sequence

import orjson

from app.api.answers import ADJUSTED_HEADER
from app.protocol.repetition import LoopDetector
from app.settings import Separation
from app.smoke.answer import Answer
from app.smoke.document import make_document
from app.smoke.failures import TOOL_PARSER, AskFailed
from app.smoke.result import Result, failed, warned, well
from app.smoke.visit import CHARACTERS_PER_TOKEN, Thoughts, Visit
from app.upstream.check import TOOL, Calls, Outcome, judge, judge_calls
from app.upstream.engines import SAMPLING_DEFAULTS

QUESTION = "What is the capital of France?"
ANSWER_WORD = "paris"
TOOL_QUESTION = "What is the weather in Oslo?"
SUMMARY_QUESTION = "Summarize the text above."

SUMMARY_TOKENS = 1_500  # of the text: two pages
SUMMARY_SHARE = 4  # of a small context
COLD_TEMPERATURE = 0.0  # at 0.3 and below the model loops
COLD_ANSWER_TOKENS = 16  # only what becomes of the temperature is of interest
SHOWN_CHARACTERS = 60  # of an answer: it stands in one line
LOOP_REPEATS, LOOP_CHARACTERS = 4, 2_000  # the gateway's own defaults for a thought

SPLIT_ADVICE = (
    "start it with its reasoning parser (vLLM and SGLang: --reasoning-parser qwen3), or, where a "
    "gateway in front splits the thought off (separation 'inline'), pass --thoughts inline"
)
LOOP_ADVICE = (
    "is the model sampled as its card says? --override-generation-config of vLLM, and no "
    "temperature of 0.3 or below"
)
LENGTH_ADVICE = f"it thinks or writes without end: {LOOP_ADVICE}"

Step = Callable[[Visit], Awaitable[Result]]


async def question(visit: Visit) -> Result:
    answer = await visit.ask("question", QUESTION)
    visit.question_answer = answer
    if answer.usage is not None:
        visit.overhead_tokens = answer.usage.prompt_tokens
    figures, said = _figures(answer), _shown(answer.text)
    if not answer.text.strip():
        advice = LENGTH_ADVICE if answer.finish == "length" else SPLIT_ADVICE
        detail = f"no answer, and finish_reason {answer.finish}"
        return failed("question", detail, advice, figures)
    if ANSWER_WORD not in answer.text.casefold():
        detail = f"not the capital of France: {said}"
        return warned("question", detail, "a small model may not know; Qwythos does", figures)
    return well("question", f"{said} {_speed(answer)}", figures)


async def sampling(visit: Visit) -> Result:
    """The model card's sampling is taken; a gateway does not let a cold temperature through."""
    await visit.ask("sampling", QUESTION, **SAMPLING_DEFAULTS)
    takes = "takes " + ", ".join(f"{name} {value}" for name, value in SAMPLING_DEFAULTS.items())
    if not visit.deployment.gateway:
        return well("sampling", takes)
    try:
        answer = await visit.ask(
            "sampling", QUESTION, temperature=COLD_TEMPERATURE, max_tokens=COLD_ANSWER_TOKENS
        )
    except AskFailed as failure:
        if failure.status != 400:
            raise
        return well("sampling", f"{takes}; refuses temperature 0: {failure.detail}")
    adjusted = answer.headers.get(ADJUSTED_HEADER.decode(), "")
    if "temperature" in adjusted:
        return well("sampling", f"{takes}; raises temperature 0 ({adjusted})")
    detail = "temperature 0 goes through, at which the model loops"
    return warned("sampling", detail, "`gateway keys set --cold-sampling raise`")


async def thought(visit: Visit) -> Result:
    """Of the first answer: no part of a thought is in its text."""
    answer = visit.question_answer
    assert answer is not None, "the question comes first"  # noqa: S101 - the order of STEPS
    if visit.deployment.gateway:
        return _thought_through_gateway(answer)
    if visit.options.thoughts is Thoughts.NONE:
        if answer.tagged or answer.thought:
            return failed("thought", "there is one", "leave --thoughts none out")
        return well("thought", "none, as expected")
    inline = visit.options.thoughts is Thoughts.INLINE
    verdict = judge(answer.events, Separation.INLINE if inline else Separation.PARSER)
    if verdict.outcome is Outcome.FAILED:
        advice = "leave --thoughts inline out" if inline else SPLIT_ADVICE
        return failed("thought", verdict.reason, advice)
    if verdict.outcome is Outcome.UNDECIDED:
        return warned("thought", verdict.reason, None)
    where = "stays in the text, for the gateway to split off" if inline else "is split off"
    return well("thought", where)


def _thought_through_gateway(answer: Answer) -> Result:
    if answer.tagged:
        advice = "is `separation` of its worker right in GATEWAY_WORKERS?"
        return failed("thought", "markup of a thought is in the answer", advice)
    if answer.thought:
        return well("thought", "split off, and shown: this key's policy says so")
    tokens = answer.usage.reasoning_tokens if answer.usage else None
    if not tokens:
        advice = "does its worker think? `thinks` in GATEWAY_WORKERS, and its chat template"
        return warned("thought", "hidden, but none was counted", advice)
    return well("thought", f"hidden: {tokens} tokens of it were counted")


async def tool_call(visit: Visit) -> Result:
    answer = await visit.ask("tool call", TOOL_QUESTION, tools=[TOOL])
    match judge_calls(answer.events):
        case Calls.IN_TEXT:
            return failed("tool call", "the call is in the text", TOOL_PARSER)
        case Calls.NONE:
            advice = f"a small model may not know how; with Qwythos: {TOOL_PARSER}"
            return warned("tool call", f"none was made: {_shown(answer.text)}", advice)
    name, arguments = answer.calls[0]
    wanted = TOOL["function"]["name"]
    if name != wanted:
        return failed("tool call", f"calls {name!r} instead of {wanted}", TOOL_PARSER)
    if not _is_object(arguments):
        detail = f"arguments are no JSON object: {_shown(arguments)}"
        return failed("tool call", detail, TOOL_PARSER)
    return well("tool call", f"{name} {arguments}")


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


async def summary(visit: Visit) -> Result:
    """Of two pages: it comes to an end by itself, by its second try at the latest: sampling may
    have bad luck once. What the pages are counted as says how long a text of a wanted number of
    tokens is."""
    context = visit.deployment.context_tokens
    tokens = SUMMARY_TOKENS if context is None else min(SUMMARY_TOKENS, context // SUMMARY_SHARE)
    document = make_document(f"{visit.options.seed}:summary", int(tokens * CHARACTERS_PER_TOKEN))
    content = f"{document.text}\n\n{SUMMARY_QUESTION}"
    answer = await visit.ask("summary", content, prompt_tokens=tokens)
    if answer.usage is not None:
        visit.learn(len(content), answer.usage.prompt_tokens)
    trouble = _trouble(answer)
    if trouble is None:
        detail = f"{len(answer.text.split())} words {_speed(answer)}"
        return well("summary", detail, _figures(answer))
    again = await visit.ask("summary", content, prompt_tokens=tokens)
    if _trouble(again) is not None:
        detail, advice = trouble
        return failed("summary", f"{detail}, twice", advice, _figures(again))
    detail, advice = trouble
    return warned("summary", f"{detail}, once of two tries", advice, _figures(again))


def _trouble(answer: Answer) -> tuple[str, str] | None:
    """What is wrong with a summary, and what to change."""
    if _loops(answer):
        return "goes round in circles", LOOP_ADVICE
    if answer.finish != "stop":
        return f"ends with {answer.finish} instead of stop", LENGTH_ADVICE
    if not answer.text.strip():
        return "is empty", SPLIT_ADVICE
    return None


def _loops(answer: Answer) -> bool:
    return any(
        LoopDetector(repeats=LOOP_REPEATS, characters=LOOP_CHARACTERS).feed(text)
        for text in (answer.thought, answer.text)
    )


STEPS: Sequence[tuple[str, Step]] = (
    ("question", question),
    ("sampling", sampling),
    ("thought", thought),
    ("tool call", tool_call),
    ("summary", summary),
)


def _figures(answer: Answer) -> dict[str, int | float | None]:
    usage = answer.usage
    return {
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "first_token_seconds": round(answer.first_seconds, 3),
        "tokens_per_second": rounded(answer.tokens_per_second),
    }


def rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)


def _speed(answer: Answer) -> str:
    rate = answer.tokens_per_second
    words = "" if rate is None else f", {rate:.0f} tokens/s"
    return f"(first token after {answer.first_seconds:.1f} s{words})"


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line[:SHOWN_CHARACTERS]}{"..." if len(line) > SHOWN_CHARACTERS else ""}"'
