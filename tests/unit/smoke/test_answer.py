from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from app.smoke.answer import Answer


def answer(*events: Event, first: float = 1.0, last: float = 3.0) -> Answer:
    return Answer((*events, Finish(0, "stop")), {}, first, last)


def usage(completion: int, reasoning: int | None) -> UsageReport:
    return UsageReport(10, completion, reasoning, 0)


def test_speed_is_of_what_was_shown() -> None:
    shown = answer(ReasoningDelta(0, "hm"), TextDelta(0, "yes"), usage(41, 20))
    assert shown.tokens_per_second == 20
    hidden = answer(TextDelta(0, "yes"), usage(41, 20))
    assert hidden.tokens_per_second == 10


def test_what_took_no_time_or_was_not_counted_has_no_speed() -> None:
    assert answer(TextDelta(0, "yes")).tokens_per_second is None
    assert answer(TextDelta(0, "yes"), usage(9, 0), last=1.0).tokens_per_second is None
    assert answer(TextDelta(0, "yes"), usage(1, None)).tokens_per_second is None


def test_calls_are_put_together_from_their_pieces() -> None:
    pieces = (
        ToolCallDelta(0, 0, "", id="a", name="first"),
        ToolCallDelta(0, 1, "{", id="b", name="second"),
        ToolCallDelta(0, 0, "{}"),
        ToolCallDelta(0, 1, "}"),
    )
    assert answer(*pieces).calls == [("first", "{}"), ("second", "{}")]


def test_markup_is_seen_over_pieces() -> None:
    assert answer(TextDelta(0, "a </th"), TextDelta(0, "ink> b")).tagged
    assert not answer(TextDelta(0, "a < b")).tagged
