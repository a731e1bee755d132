"""From a worker's bytes to a client's: nothing hidden leaks, and folded equals streamed."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.answer import AnswerReader, Visible
from app.protocol.encode import ChatEncoder, ChatFolder
from app.protocol.events import Finish, TextDelta, ToolCallDelta, Usage
from app.protocol.sse import DONE, SSEDecoder
from tests.properties.cutting import cut, cuts

NONCE = "N0NCE"
words = st.lists(st.text(alphabet="ab <\u2028é\n", max_size=8), max_size=5)
thoughts = words.map(lambda texts: [*texts, NONCE])


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


def parsed(thought: list[str], answer: list[str], index: int = 0) -> list[dict[str, object]]:
    """As an engine with a reasoning parser sends it."""
    chunks = [delta(index, role="assistant", content="")]
    chunks += [delta(index, reasoning=text) for text in thought]
    chunks += [delta(index, content=text) for text in answer]
    return [*chunks, delta(index, "stop")]


def inline(thought: list[str], answer: list[str]) -> list[dict[str, object]]:
    """As an engine without one does: the template has opened the thought."""
    texts = [*thought, "</think>", "\n\n", *answer]
    return [*(delta(content=text) for text in texts), delta(finish="stop")]


def read(data: bytes, at: list[int], *, inside: bool = False, n: int = 1) -> list[Visible]:
    reader = AnswerReader(inside=inside, n=n)
    events = [event for piece in cut(data, at) for event in reader.feed(piece)]
    events += reader.close()
    assert reader.complete
    return events


def shown(events: list[Visible], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta) and e.choice == choice)


def encoded(events: list[Visible], n: int = 1) -> bytes:
    encoder = ChatEncoder("id", 1, "m", n=n, include_usage=True)
    return encoder.encode(events) + encoder.end(Usage())


def folded(events: list[Visible], n: int = 1) -> bytes:
    folder = ChatFolder(n)
    folder.feed(events)
    return folder.body("id", 1, "m", Usage())


@given(thoughts, words, cuts, st.booleans())
def test_no_thought_is_in_the_clients_bytes_streamed_or_folded(
    thought: list[str], answer: list[str], at: list[int], in_text: bool
) -> None:
    chunks = inline(thought, answer) if in_text else parsed(thought, answer)
    events = read(sse(*chunks), at, inside=in_text)
    assert NONCE.encode() not in encoded(events) + folded(events)


@given(thoughts, words, cuts)
def test_both_kinds_of_worker_give_the_same_answer(
    thought: list[str], answer: list[str], at: list[int]
) -> None:
    one = read(sse(*parsed(thought, answer)), at)
    other = read(sse(*inline(thought, answer)), at, inside=True)
    assert shown(one) == shown(other) == "".join(answer).lstrip()


@given(words, words, cuts)
def test_choices_are_kept_apart(first: list[str], second: list[str], at: list[int]) -> None:
    chunks = [
        chunk
        for pair in zip(parsed([NONCE], first, 0), parsed([NONCE], second, 1), strict=False)
        for chunk in pair
    ]
    chunks += parsed([NONCE], first, 0)[len(parsed([NONCE], second)) :]
    chunks += parsed([NONCE], second, 1)[len(parsed([NONCE], first)) :]
    events = read(sse(*chunks), at, n=2)
    assert shown(events, 0) == "".join(first).lstrip()
    assert shown(events, 1) == "".join(second).lstrip()
    assert NONCE.encode() not in encoded(events, 2) + folded(events, 2)


@given(thoughts, words, cuts)
def test_a_folded_answer_is_the_streamed_one(
    thought: list[str], answer: list[str], at: list[int]
) -> None:
    events = read(sse(*parsed(thought, answer)), at)
    message = orjson.loads(folded(events))["choices"][0]["message"]
    chunks = [orjson.loads(p) for p in SSEDecoder().feed(encoded(events)) if p != DONE]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert message["content"] == "".join(d.get("content") or "" for d in deltas)
    assert [d["role"] for d in deltas if "role" in d] == ["assistant"]


def test_usage_is_the_workers_own() -> None:
    reader = AnswerReader(inside=False)
    reader.feed(sse(*parsed(["a"], ["b"]), USAGE) + b"data: [DONE]\n\n")
    assert reader.done
    assert reader.usage(100) == Usage(7, 5, 3, 2, exact=True)


def test_reasoning_tokens_are_counted_where_the_worker_does_not_tell() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}
    reader = AnswerReader(inside=True)
    reader.feed(sse(*inline(["a", "b", "c"], ["d"]), usage))
    assert reader.usage(0).reasoning_tokens == 3


def test_usage_is_our_count_where_the_worker_said_nothing() -> None:
    reader = AnswerReader(inside=False)
    reader.feed(sse(delta(reasoning="a"), delta(content="b"), delta(content="c")))
    assert reader.usage(40) == Usage(40, 3, 1, 0, exact=False)


def test_a_tool_call_has_its_id_and_name_once() -> None:
    def call(**function: str) -> dict[str, object]:
        return {"index": 0, "id": "c1", "type": "function", "function": function}

    chunks = [
        delta(tool_calls=[call(name="f", arguments="")]),
        delta(tool_calls=[call(name="f", arguments='{"a"')]),
        delta(tool_calls=[call(arguments=":1}")]),
        delta(finish="tool_calls"),
    ]
    events = read(sse(*chunks), [])
    assert events == [
        ToolCallDelta(0, 0, "", "c1", "f"),
        ToolCallDelta(0, 0, '{"a"'),
        ToolCallDelta(0, 0, ":1}"),
        Finish(0, "tool_calls"),
    ]
    message = orjson.loads(folded(events))["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}


def test_a_tool_call_without_an_id_gets_one_of_its_own() -> None:
    reader = AnswerReader(inside=False, call_prefix="call_x")
    events = reader.feed(sse(delta(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}])))
    assert events == [ToolCallDelta(0, 0, "{}", "call_x_0_0", "f")]


@pytest.mark.parametrize(
    ("reason", "expected"), [("repetition", "length"), ("length", "length"), ("what?", "stop")]
)
def test_finish_reasons_are_those_that_sdks_know(reason: str, expected: str) -> None:
    assert read(sse(delta(finish=reason)), []) == [Finish(0, expected)]


@pytest.mark.parametrize(
    "payload",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: {"choices":[{"index":"x"}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":5}}]}\n\n',
        b'data: {"choices":7}\n\n',
        b'data: {"choices":[{"index":9,"delta":{"content":"x"}}]}\n\n',
        b'data: {"error":{"message":"boom","code":500}}\n\n',
        b'data: {"error":"boom"}\n\n',
        b'data: {"object":"error","message":"boom"}\n\n',
        b'data: {"choices":[{"index":0,"finish_reason":"abort"}]}\n\n',
    ],
)
def test_what_is_not_an_answer_breaks_the_stream(payload: bytes) -> None:
    reader = AnswerReader(inside=False)
    assert reader.feed(sse(delta(content="so far")) + payload) == [TextDelta(0, "so far")]
    assert reader.failure is not None
    assert reader.feed(sse(delta(content="more"))) == []


def test_an_end_without_a_finish_reason_is_not_complete() -> None:
    reader = AnswerReader(inside=False)
    reader.feed(sse(delta(content="half")) + b"data: [DONE]\n\n")
    assert reader.done
    assert not reader.complete


def test_nothing_after_a_choices_end_is_shown() -> None:
    events = read(sse(delta(content="a"), delta(finish="stop"), delta(content="b")), [])
    assert events == [TextDelta(0, "a"), Finish(0, "stop")]


def test_a_stop_sequence_ends_the_answer_and_frees_the_worker() -> None:
    reader = AnswerReader(inside=False, stop=["END"])
    events = reader.feed(sse(delta(reasoning="END"), delta(content="ab E"), delta(content="ND c")))
    assert events == [TextDelta(0, "ab "), Finish(0, "stop")]
    assert reader.stopped_here


def test_a_text_that_only_looked_like_a_stop_sequence_is_shown_at_the_end() -> None:
    reader = AnswerReader(inside=False, stop=["END"])
    events = reader.feed(sse(delta(content="ab EN"), delta(finish="stop")))
    assert shown(events) == "ab EN"


def test_a_tag_cut_at_the_very_end_is_shown_once() -> None:
    assert shown(read(sse(delta(content="a <thi"), delta(finish="stop")), [])) == "a <thi"


def test_text_after_a_call_is_never_shown() -> None:
    # vLLM finds a call inside the thought, and takes the rest of the thought for text.
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    events = read(
        sse(
            delta(reasoning="hm"),
            delta(tool_calls=[call]),
            delta(content=f"more {NONCE}"),
            delta(finish="tool_calls"),
        ),
        [],
    )
    assert NONCE.encode() not in encoded(events) + folded(events)
