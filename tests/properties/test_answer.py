"""From a worker's bytes to a client's: what is read, how an answer ends, what it cost."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.answer import AnswerReader
from app.protocol.events import ReasoningDelta, TextDelta, ToolCallDelta, Usage, Visible
from app.protocol.rules import AnswerRules, CallRules, LoopRules, Start
from tests.properties.cutting import cut, cuts
from tests.properties.reading import read

words = st.lists(st.text(alphabet="ab <\u2028é\n", max_size=8), max_size=5)
FREELY = CallRules(offered={"f": None})


def sse(*chunks: object) -> bytes:
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)


def delta(index: int = 0, finish: str | None = None, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_tokens_details": {"cached_tokens": 2},
    },
}


def parsed(thought: list[str], answer: list[str]) -> list[dict[str, object]]:
    """As an engine with a reasoning parser sends it."""
    chunks = [delta(role="assistant", content="")]
    chunks += [delta(reasoning=text) for text in thought]
    chunks += [delta(content=text) for text in answer]
    return [*chunks, delta(finish="stop")]


def inline(thought: list[str], answer: list[str]) -> list[dict[str, object]]:
    """As an engine without one does: the template has opened the thought."""
    texts = [*thought, "</think>", "\n\n", *answer]
    return [*(delta(content=text) for text in texts), delta(finish="stop")]


def split(rules: AnswerRules = AnswerRules()) -> AnswerReader:  # noqa: B008 - frozen
    """Of a worker that splits, and has thought already."""
    reader = AnswerReader(rules, start=Start.SPLIT)
    reader.feed(sse(delta(reasoning="hm")))
    return reader


def shown(events: list[Visible]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@given(words.map(lambda texts: ["hm", *texts]), words, cuts)
def test_both_kinds_of_worker_give_the_same_answer(
    thought: list[str], answer: list[str], at: list[int]
) -> None:
    one = read(cut(sse(*parsed(thought, answer)), at), AnswerRules(), start=Start.SPLIT)
    other = read(cut(sse(*inline(thought, answer)), at), AnswerRules(), start=Start.THOUGHT)
    assert one.messages == other.messages
    assert one.messages[0].content == "".join(answer).lstrip()


# -- what it cost


def test_usage_is_the_workers_own() -> None:
    reader = split()
    reader.feed(sse(*parsed(["a"], ["b"]), USAGE) + b"data: [DONE]\n\n")
    assert reader.done
    assert reader.usage(100) == Usage(7, 5, 3, 2, exact=True)


def test_reasoning_tokens_are_counted_where_the_worker_does_not_tell() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}
    reader = AnswerReader(AnswerRules(), start=Start.THOUGHT)
    reader.feed(sse(*inline(["a", "b", "c"], ["d"]), usage))
    assert reader.usage(0).reasoning_tokens == 3


def test_usage_is_our_count_where_the_worker_said_nothing() -> None:
    reader = split()
    reader.feed(sse(delta(content="b"), delta(content="c")))
    assert reader.usage(40) == Usage(40, 3, 1, 0, exact=False)


# -- calls


def call(index: int = 0, call_id: str | None = "c1", **function: str) -> dict[str, object]:
    named = {} if call_id is None else {"id": call_id, "type": "function"}
    return {"index": index, "function": function} | named


def test_a_tool_call_has_its_id_and_name_once() -> None:
    reader = split(AnswerRules(calls=FREELY))
    events = reader.feed(
        sse(
            delta(tool_calls=[call(name="f", arguments="")]),
            delta(tool_calls=[call(name="f", arguments='{"a"')]),
            delta(tool_calls=[call(call_id=None, arguments=":1}")]),
            delta(finish="tool_calls"),
        )
    )
    assert events == [ToolCallDelta(0, 0, "", "c1", "f"), ToolCallDelta(0, 0, '{"a":1}')]
    assert reader.finishes == {0: "tool_calls"}


def test_a_tool_call_without_an_id_gets_one_of_its_own() -> None:
    reader = split(AnswerRules(calls=FREELY, call_prefix="call_x"))
    events = reader.feed(
        sse(
            delta(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]),
            delta(finish="tool_calls"),
        )
    )
    assert events == [ToolCallDelta(0, 0, "", "call_x_0_0", "f"), ToolCallDelta(0, 0, "{}")]


# -- how it ends


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("repetition", "length"),
        ("length", "length"),
        ("what?", "length"),
        ("tool_calls", "stop"),  # without any
        ("content_filter", "content_filter"),
    ],
)
def test_finish_reasons_are_those_that_sdks_know(reason: str, expected: str) -> None:
    reader = split()
    assert reader.feed(sse(delta(finish=reason))) == []
    assert reader.finishes == {0: expected}


@pytest.mark.parametrize(
    "payload",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: {"choices":[{"index":"x"}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":5}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":5}}]}}]}\n\n',
        b'data: {"choices":7}\n\n',
        b'data: {"choices":[{"index":9,"delta":{"content":"x"}}]}\n\n',
        b'data: {"error":{"message":"boom","code":500}}\n\n',
        b'data: {"error":"boom"}\n\n',
        b'data: {"object":"error","message":"boom"}\n\n',
        b'data: {"choices":[{"index":0,"finish_reason":"abort"}]}\n\n',
    ],
)
def test_what_is_not_an_answer_breaks_the_stream(payload: bytes) -> None:
    reader = split()
    assert reader.feed(sse(delta(content="so far")) + payload) == [TextDelta(0, "so far")]
    assert reader.failure is not None
    assert reader.feed(sse(delta(content="more"))) == []


def test_an_end_without_a_finish_reason_is_not_complete() -> None:
    reader = split()
    reader.feed(sse(delta(content="half")) + b"data: [DONE]\n\n")
    assert reader.done
    assert not reader.complete


def test_nothing_after_a_choices_end_is_shown() -> None:
    reader = split()
    events = reader.feed(sse(delta(content="a"), delta(finish="stop"), delta(content="b")))
    assert events == [TextDelta(0, "a")]


def test_a_stop_sequence_ends_the_answer_and_frees_the_worker() -> None:
    reader = split(AnswerRules(stop=("END",)))
    events = reader.feed(sse(delta(reasoning="END"), delta(content="ab E"), delta(content="ND c")))
    assert events == [TextDelta(0, "ab ")]
    assert reader.finishes == {0: "stop"}
    assert reader.stopped_here


def test_a_text_that_only_looked_like_a_stop_sequence_is_shown_at_the_end() -> None:
    reader = split(AnswerRules(stop=("END",)))
    assert shown(reader.feed(sse(delta(content="ab EN"), delta(finish="stop")))) == "ab EN"


def test_a_tag_cut_at_the_very_end_is_shown_once() -> None:
    assert shown(split().feed(sse(delta(content="a <thi"), delta(finish="stop")))) == "a <thi"


# -- what is stopped here


@settings(max_examples=20)
@given(st.booleans(), st.integers(1, 40))
def test_a_loop_ends_the_answer_as_its_length_would(in_thought: bool, period: int) -> None:
    loops = LoopRules(repeats=4, thought_characters=400, answer_characters=400)
    reader = split(AnswerRules(loops=loops))
    passage = "abcdefghij" * 4
    field = "reasoning" if in_thought else "content"
    for _ in range(2_000 // period):
        reader.feed(sse(delta(**{field: passage[:period]})))
    assert reader.finishes == {0: "length"}
    assert reader.stopped_here
    assert reader.findings.stopped == ("loop_in_thought" if in_thought else "loop_in_answer")


def test_a_thought_over_its_quota_is_stopped_here_where_the_engine_does_not() -> None:
    reader = AnswerReader(AnswerRules(max_thinking_tokens=10), start=Start.THOUGHT)
    while not reader.stopped_here:
        assert reader.feed(sse(delta(content=" hm"))) == []
        assert reader.deltas < 40
    assert reader.finishes == {0: "length"}
    assert reader.findings.stopped == "thinking_quota"


# -- the thought


def test_a_thought_is_shown_to_a_key_that_may_see_it() -> None:
    reader = AnswerReader(AnswerRules(show_thought=True), start=Start.SPLIT)
    events = reader.feed(sse(delta(reasoning="hm"), delta(content="Hi"), delta(finish="stop")))
    assert events == [ReasoningDelta(0, "hm"), TextDelta(0, "Hi")]


@given(words, words, cuts, st.booleans())
def test_a_thought_is_kept_where_the_rules_say_so(
    thought: list[str], answer: list[str], at: list[int], in_text: bool
) -> None:
    chunks = (inline if in_text else parsed)(["hm", *thought], answer)
    start = Start.THOUGHT if in_text else Start.SPLIT
    keeping = AnswerReader(AnswerRules(keep_thought=True), start=start)
    forgetting = AnswerReader(AnswerRules(), start=start)
    for piece in cut(sse(*chunks), at):
        assert keeping.feed(piece) == forgetting.feed(piece)
    assert keeping.choices[0].thought == "hm" + "".join(thought)
    assert forgetting.choices[0].thought == ""
