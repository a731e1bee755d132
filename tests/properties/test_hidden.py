"""Nothing hidden ever leaks: whatever the worker sends, however its bytes and its text are cut, for
several choices in turns, streamed and folded."""

import gc
import re
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, ModuleType

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.answer import AnswerReader
from app.protocol.rules import AnswerRules, CallRules, Start
from app.protocol.tags import MAX_TAG_CHARACTERS
from tests.properties.cutting import cut, cuts
from tests.properties.generated import NONCE, TOOLS, streams
from tests.properties.reading import Message, Seen, read
from tests.properties.worker_streams import EXTRA, Choice, Stream, Wire

laws = settings(max_examples=120, deadline=None)
chunkings = st.integers(0, 1000)
MARKUP = re.compile(
    r"<\s*/?\s*think(ing)?\s*>|</?tool_call>|<function=|<\|[a-z_]+\|>", re.IGNORECASE
)


def arrived(stream: Stream, at: list[int] | None = None) -> Seen:
    return read(
        cut(stream.data(), at or []),
        stream.rules,
        start=stream.wire.start,
        verified=stream.verified,
    )


def nothing_hidden_is_in(seen: Seen) -> None:
    assert NONCE.encode() not in seen.sent
    assert EXTRA.encode() not in seen.sent
    for message in seen.messages:
        # What is hidden is written in capitals.
        assert not any(character.isupper() for character in message.texts)
        assert not MARKUP.search(message.content)


def squeezed(text: str) -> str:
    """White space between a thought and its answer belongs to neither, and is not the point."""
    return "".join(text.split())


def released(message: Message) -> list[tuple[str, object]]:
    return [(name, orjson.loads(arguments)) for _, name, arguments in message.calls]


@laws
@given(streams(), cuts)
def test_nothing_hidden_is_in_the_clients_bytes(stream: Stream, at: list[int]) -> None:
    nothing_hidden_is_in(arrived(stream, at))


@laws
@given(streams(), st.integers(0))
def test_nothing_hidden_is_shown_where_a_worker_breaks_off(stream: Stream, end: int) -> None:
    data = stream.data()
    part = data[: end % (len(data) + 1)]
    nothing_hidden_is_in(
        read([part], stream.rules, start=stream.wire.start, verified=stream.verified)
    )


@laws
@given(streams(), cuts, chunkings)
def test_the_answer_does_not_depend_on_the_cut(
    stream: Stream, at: list[int], chunking: int
) -> None:
    once = arrived(stream)
    again = arrived(stream, at)
    assert again == once
    otherwise = arrived(replace(stream, chunking=chunking))
    assert otherwise.messages == once.messages
    assert noted(otherwise) == noted(once)


def noted(seen: Seen) -> tuple[object, ...]:
    """In no order: the choices came in other turns."""
    found = seen.findings
    refused = sorted((call.name, call.reason) for call in found.refused_calls)
    return found.hidden, refused, found.shown_too_early, found.stopped


@laws
@given(streams(), cuts)
def test_all_that_may_be_shown_arrives(stream: Stream, at: list[int]) -> None:
    for choice, message in zip(stream.choices, arrived(stream, at).messages, strict=True):
        content, shown = squeezed(message.content), squeezed(choice.shown)
        if choice.sure:
            assert content == shown
            assert released(message) == list(choice.released)
        else:
            rest = iter(shown)
            assert all(character in rest for character in content)  # in that order
            assert all(call in choice.released for call in released(message))
        assert message.finish_reason == finish_reason(choice, message)


def finish_reason(choice: Choice, message: Message) -> str | None:
    if choice.reason in ("stop", "tool_calls"):
        return "tool_calls" if message.calls else "stop"
    return "length" if choice.reason == "repetition" else choice.reason


@laws
@given(streams())
def test_each_choice_is_as_it_would_be_alone(stream: Stream) -> None:
    together = arrived(stream).messages
    for index, message in enumerate(together):
        (alone,) = arrived(stream.alone(index)).messages
        assert replace(alone, calls=[call[1:] for call in alone.calls]) == replace(
            message, calls=[call[1:] for call in message.calls]
        )


@laws
@given(streams(), cuts)
def test_a_key_that_may_see_the_thought_has_the_same_answer(stream: Stream, at: list[int]) -> None:
    hidden = arrived(stream, at)
    visible = arrived(replace(stream, rules=replace(stream.rules, show_thought=True)), at)
    assert [replace(message, reasoning="") for message in visible.messages] == hidden.messages
    assert EXTRA.encode() not in visible.sent
    assert not any(NONCE in message.texts for message in visible.messages)
    assert all(NONCE in message.reasoning for message in visible.messages) or (
        stream.wire is Wire.CONTINUED or any(choice.reason is None for choice in stream.choices)
    )


@laws
@given(streams(), cuts)
def test_nothing_is_left_and_nothing_follows_at_the_end(stream: Stream, at: list[int]) -> None:
    reader = AnswerReader(stream.rules, start=stream.wire.start, verified=stream.verified)
    for piece in cut(stream.data().removesuffix(b"data: [DONE]\n\n"), at):
        reader.feed(piece)
    if reader.complete:
        more = {"index": 0, "delta": {"content": "</think>more"}, "finish_reason": "stop"}
        line = b"data: " + orjson.dumps({"choices": [more]}) + b"\n\n"
        assert reader.feed(line) == []
    assert reader.close() == []


# -- what is held


# Code and rules, which hold text of their own.
FIXED = (type, FunctionType, BuiltinFunctionType, ModuleType, re.Pattern, AnswerRules)


def text_held_by(reader: AnswerReader) -> int:
    """Characters of all strings that hang on it."""
    found, seen = 0, set()
    todo: list[object] = [vars(reader)]
    while todo:
        held = todo.pop()
        if id(held) in seen or isinstance(held, FIXED):
            continue
        seen.add(id(held))
        if isinstance(held, str | bytes):
            found += len(held)
        else:
            todo += gc.get_referents(held)
    return found


HELD = AnswerRules(calls=CallRules(offered=TOOLS), loops=None, hold_characters=200)


def delta(text: str, field: str = "content") -> bytes:
    choice = {"index": 0, "delta": {field: text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(Start),
    st.lists(
        st.sampled_from(
            ("word " * 9, "word", "<", "</think>", "<think>", " ", "</", "think", "\n" * 9, "`")
        ),
        min_size=10,
        max_size=40,
    ),
    st.booleans(),
)
def test_what_is_held_is_bounded(start: Start, texts: list[str], thinks: bool) -> None:
    reader = AnswerReader(HELD, start=start)
    least = text_held_by(reader)
    if thinks:
        reader.feed(delta("thought", "reasoning"))
    for text in texts:
        reader.feed(delta(text))
        assert text_held_by(reader) - least <= HELD.hold_characters + 4 * MAX_TAG_CHARACTERS


@laws
@given(
    st.lists(st.sampled_from(("word ", "<", "</", "< ", "a", ">", "/", "`", "<thin")), max_size=40)
)
def test_an_answer_is_never_far_behind_its_worker(texts: list[str]) -> None:
    reader = AnswerReader(HELD, start=Start.ANSWER)
    given_, shown = "", ""
    for text in texts:
        given_ += text
        shown += "".join(event.text for event in reader.feed(delta(text)))
        assert given_.lstrip().startswith(shown)
        assert len(given_.lstrip()) - len(shown) < MAX_TAG_CHARACTERS
