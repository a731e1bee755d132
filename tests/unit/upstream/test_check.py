"""What an answer to the fixed question tells of a worker."""

import pytest

from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    StreamFailed,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from app.settings import Separation
from app.upstream.check import Calls, Outcome, judge, judge_calls

PARSER, INLINE = Separation


def answer(*, thought: str = "", text: str = "", finish: str | None = "stop") -> list[Event]:
    """In pieces of one character, as tags come."""
    events: list[Event] = [ReasoningDelta(0, character) for character in thought]
    events += [TextDelta(0, character) for character in text]
    if finish is not None:
        events.append(Finish(0, finish))
    return [*events, UsageReport(7, 9, None, 0)]


@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_a_parser_that_splits_is_believed(finish: str | None) -> None:
    events = answer(thought="Two and two.", text="Four.", finish=finish)
    assert judge(events, PARSER).outcome is Outcome.OK


def test_a_thought_as_long_as_the_bound_shows_the_split_too() -> None:
    assert judge(answer(thought="Hm", finish="length"), PARSER).outcome is Outcome.OK


TAGS = ["</think>", "<think>", "< Think >", "</ THINK >", "<thinking>", "</Thinking\n>"]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("thought", ["", "Two and two."])
@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_a_tag_in_the_text_is_a_parser_that_does_not_split(
    tag: str, thought: str, finish: str | None
) -> None:
    verdict = judge(answer(thought=thought, text=f"So.{tag}Four.", finish=finish), PARSER)
    assert verdict.outcome is Outcome.FAILED
    assert "--reasoning-parser qwen3" in verdict.reason
    assert "separation 'inline'" in verdict.reason


@pytest.mark.parametrize("thought", ["", "\n\n "])
@pytest.mark.parametrize("text", ["", "The user asks for a sum."])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_no_thought_is_one_that_may_be_in_the_text(thought: str, text: str, finish: str) -> None:
    verdict = judge(answer(thought=thought, text=text, finish=finish), PARSER)
    assert verdict.outcome is Outcome.FAILED
    assert "--reasoning-parser qwen3" in verdict.reason


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_thought_without_an_answer_fails(text: str) -> None:
    assert judge(answer(thought="Hm", text=text), PARSER).outcome is Outcome.FAILED


def test_a_thought_that_ends_in_the_text_is_inline() -> None:
    events = answer(text="Two and two.\n</think>\n\nFour.")
    assert judge(events, INLINE).outcome is Outcome.OK


@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_one_that_splits_is_not_inline(finish: str | None) -> None:
    verdict = judge(answer(thought="Two and two.", text="Four.", finish=finish), INLINE)
    assert verdict.outcome is Outcome.FAILED
    assert "separation 'parser'" in verdict.reason


@pytest.mark.parametrize("text", ["", "Four.", "</think>Four.", " \n</think>Four."])
def test_inline_without_a_thought_fails(text: str) -> None:
    assert judge(answer(text=text), INLINE).outcome is Outcome.FAILED


def test_an_inline_thought_cut_by_the_bound_tells_nothing() -> None:
    assert judge(answer(text="Hm", finish="length"), INLINE).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("separation", Separation)
@pytest.mark.parametrize(
    "events", [[], answer(finish=None), [*answer(thought="Hm"), StreamFailed("out of memory")]]
)
def test_what_broke_off_or_failed_tells_nothing(
    events: list[Event], separation: Separation
) -> None:
    verdict = judge(events, separation)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.reason


CALL = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>"


def test_calls_are_told_apart_by_where_they_are() -> None:
    parsed = [ToolCallDelta(0, 0, "", "call_1", "get_weather"), *answer(text=CALL)]
    assert judge_calls(parsed) is Calls.PARSED
    assert judge_calls(answer(text=CALL)) is Calls.IN_TEXT
    assert judge_calls(answer(text="I do not know.")) is Calls.NONE
    assert judge_calls([]) is Calls.NONE
