"""What the automaton makes of unusual orders of events."""

import pytest

from app.protocol.choice import ChoiceReader
from app.protocol.events import (
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Visible,
)
from app.protocol.findings import Findings, Hidden, Stopped
from app.protocol.rules import AnswerRules, CallRules, Start

RULES = AnswerRules(calls=CallRules({"f": None}))
Event = TextDelta | ReasoningDelta | ToolCallDelta | Finish
CALL = ToolCallDelta(0, 0, "{}", "id", "f")


def text(value: str) -> TextDelta:
    return TextDelta(0, value)


def thought(value: str) -> ReasoningDelta:
    return ReasoningDelta(0, value)


def read(
    *events: Event, rules: AnswerRules = RULES, verified: bool = True
) -> tuple[str, list[str], str | None, Findings]:
    """The visible text, the names of the calls, the finish reason, and what was found."""
    findings = Findings()
    choice = ChoiceReader(0, rules, findings, Start.SPLIT, verified=verified)
    out: list[Visible] = []
    for event in events:
        choice.feed(event, out)
    shown = "".join(event.text for event in out if isinstance(event, TextDelta))
    calls = [event.name for event in out if isinstance(event, ToolCallDelta) and event.name]
    return shown, calls, choice.finish, findings


@pytest.mark.parametrize(
    "later", [text("more</think>answer"), text("<think>more"), thought("I think"), text("</think>")]
)
def test_text_before_a_call_is_no_answer_once_a_thought_shows(later: Event) -> None:
    shown, calls, _, findings = read(text("SECRET "), CALL, later, Finish(0, "tool_calls"))
    assert (shown, calls) == ("", ["f"])
    assert findings.hidden[Hidden.BEFORE_THOUGHT] == 1


def test_text_before_a_call_is_shown_where_nothing_was_thought() -> None:
    shown, calls, finish, _ = read(text("Let me see."), CALL, Finish(0, "tool_calls"))
    assert (shown, calls, finish) == ("Let me see.", ["f"], "tool_calls")


def test_white_space_alone_is_no_sign_of_a_split() -> None:
    shown, *_ = read(thought("\n"), text("SECRET</think>answer"), Finish(0, "stop"))
    assert shown == "answer"


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_an_answer_without_a_thought_is_believed_only_at_its_own_end(reason: str) -> None:
    assert read(text("SECRET half a thou"), Finish(0, reason))[0] == ""
    assert read(text("Hello"), Finish(0, "stop"))[0] == "Hello"
    assert read(text("Hello"), Finish(0, "stop"), verified=False)[0] == ""


def test_a_call_that_was_whole_outlives_what_is_cut_off_behind_it() -> None:
    rules = AnswerRules(calls=RULES.calls, max_thinking_tokens=5)
    babble = [text(f"word {number} ") for number in range(50)]
    shown, calls, finish, findings = read(CALL, *babble, Finish(0, "stop"), rules=rules)
    assert (shown, calls, finish) == ("", ["f"], "tool_calls")
    assert findings.stopped is Stopped.THINKING_QUOTA


def test_a_space_behind_a_second_thought_belongs_to_the_answer() -> None:
    shown, *_ = read(
        thought("I think."), text("Hello"), thought("Again."), text(" world"), Finish(0, "stop")
    )
    assert shown == "Hello world"


def test_tags_that_an_answer_quotes_hide_only_what_is_between() -> None:
    shown, *_ = read(
        thought("I think."),
        text("Use `<think>` and `</think>` tags. Then parse."),
        Finish(0, "stop"),
    )
    assert shown == "Use `` tags. Then parse."


def test_a_key_that_reads_tags_all_day_may_have_them_in_thoughts() -> None:
    rules = AnswerRules(show_second_thought=True)
    events = (thought("It asks of the <think> tag."), text("It opens a thought."))
    assert read(*events, Finish(0, "stop"), rules=rules)[0] == "It opens a thought."
    assert read(*events, Finish(0, "stop"))[0] == ""


def test_letters_that_look_alike_make_no_tag() -> None:
    odd = "Hello <th\u0131nk>"
    assert read(thought("I think."), text(odd), Finish(0, "stop"))[0] == odd
