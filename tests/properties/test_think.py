"""Thought and answer told apart in a text: as a reader who sees all of it at once would, however it
was cut."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.answer import AnswerReader
from app.protocol.events import Finish, ReasoningDelta, TextDelta
from app.protocol.findings import Findings
from app.protocol.rules import AnswerRules, CallRules, Start
from app.protocol.tags import MAX_TAG_CHARACTERS, MAX_TAG_SPACES, partial_tag, tags
from tests.properties.cutting import cut, cuts

NONCE = "N0NCE"
TAG = re.compile(r"<\s*(/?)\s*think(?:ing)?\s*>|<\|im_end\|>", re.IGNORECASE)
QUOTES = "\"'`\u201c\u201d"
RULES = AnswerRules(loops=None, show_thought=True, calls=CallRules(offered={"f": None}))

clean = st.text(alphabet="abc \u2028é\n", max_size=20)
fragments = st.sampled_from(
    (
        "<think>", "</think>", "<Think>", "</THINK>", "< think >", "< / Thinking\n>", "<thinking>",
        "<think", "</think", "think>", "<", "/", ">", "</", " ", "\n", "a", "b ", "`", '"', "'",
        "<|im_end|>", "<|im", "\u2028", "é",
    )
)  # fmt: skip
noise = st.lists(fragments, max_size=14).map("".join)
call_fragments = st.sampled_from(
    (
        "<tool_call>", "</tool_call>", "\n<function=f>", "</function>", "{", "<tool_call>\n{",
        "<func", '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
        "<tool_call>\n<function=f>\n<parameter=a>\nb\n</parameter>\n</function>\n</tool_call>",
    )
)  # fmt: skip
noise_with_calls = st.lists(fragments | call_fragments, max_size=8).map("".join)
starts = st.sampled_from((Start.THOUGHT, Start.ANSWER))


def texts(pieces: list[str]) -> list[TextDelta | ReasoningDelta]:
    return [TextDelta(0, piece) for piece in pieces]


def run(pieces: list[str], start: Start, rules: AnswerRules = RULES) -> tuple[str, str]:
    """All that was shown, and all that was hidden."""
    shown, hidden, _ = run_noting(texts(pieces), start, rules)
    return shown, hidden


def run_noting(
    deltas: list[TextDelta | ReasoningDelta], start: Start, rules: AnswerRules = RULES
) -> tuple[str, str, Findings]:
    reader = AnswerReader(rules, start=start)
    (choice,) = reader.choices
    events: list[object] = []
    for delta in [delta for delta in deltas if delta.text]:  # as it is with what is decoded
        choice.feed(delta, events)
    choice.feed(Finish(0, "stop"), events)
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    hidden = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    return shown, hidden, reader.findings


def as_read_at_once(text: str, *, thinking: bool) -> tuple[str, str]:
    """The rules once more, without any of the care that cutting takes."""
    opened, fresh, done = [False] if thinking else [], True, 0
    shown = hidden = ""
    for tag in TAG.finditer(text):
        before, done = text[done : tag.start()], tag.end()
        control, closing = tag[0].startswith("<|"), bool(tag[1])
        variant = tag[0] not in ("<think>", "</think>")
        if not opened:
            shown += before
            if not control and not closing:
                opened, fresh = [variant], True
            continue
        hidden += before
        fresh = fresh and not before.strip()
        behind, ahead = text[: tag.start()][-1:], text[tag.end() :][:1]
        quoted = bool(behind) and behind in QUOTES
        if control or (closing and quoted and ahead in ("", behind)):
            pass  # a mention; at the very end nothing follows that could be an answer
        elif closing:
            if opened[-1] or not variant:
                opened.pop()
        elif fresh:
            opened[-1] = opened[-1] or variant
        elif not quoted:
            opened.append(variant)
        hidden += tag[0] if opened else ""
        fresh = False
    rest = text[done:]
    return (shown, hidden + rest) if opened else (shown + rest, hidden)


def squeezed(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=300)
@given(noise, cuts, starts)
def test_the_split_does_not_depend_on_how_the_text_was_cut(
    text: str, at: list[int], start: Start
) -> None:
    assert run_noting(texts(cut(text, at)), start) == run_noting(texts([text]), start)


@settings(max_examples=300)
@given(noise, starts)
def test_the_split_is_that_of_a_reader_who_sees_it_all(text: str, start: Start) -> None:
    shown, hidden = run([text], start)
    expected, thought = as_read_at_once(text, thinking=start is Start.THOUGHT)
    assert squeezed(shown) == squeezed(expected)
    assert hidden == thought


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.booleans(), noise_with_calls), max_size=5), cuts, st.sampled_from(Start)
)
def test_with_thought_in_a_field_of_its_own_it_does_not_depend_on_the_cut_either(
    fields: list[tuple[bool, str]], at: list[int], start: Start
) -> None:
    def deltas(at: list[int]) -> list[TextDelta | ReasoningDelta]:
        return [
            ReasoningDelta(0, piece) if thought else TextDelta(0, piece)
            for thought, text in fields
            for piece in cut(text, at)
        ]

    assert run_noting(deltas(at), start) == run_noting(deltas([]), start)


@given(noise, noise, cuts)
def test_a_thought_that_the_template_opened_is_never_shown(
    before: str, after: str, at: list[int]
) -> None:
    text = TAG.sub("", before).replace(">", "") + NONCE + "</think>" + after
    shown, hidden = run(cut(text, at), Start.THOUGHT)
    assert NONCE not in shown
    assert NONCE in hidden


@given(clean, noise, cuts)
def test_a_thought_without_an_end_is_hidden_to_the_end(
    before: str, inner: str, at: list[int]
) -> None:
    text = f"{before}<think>{inner.replace('/', '')}{NONCE}"
    shown, hidden = run(cut(text, at), Start.ANSWER)
    assert NONCE in hidden
    assert shown == before.lstrip()


@given(clean, clean, clean, cuts)
def test_the_answer_around_a_thought_is_complete(
    before: str, thought: str, after: str, at: list[int]
) -> None:
    text = f"a{before}<think>{thought}</think>{after}"
    assert run(cut(text, at), Start.ANSWER) == ("a" + before + after.lstrip(), thought)


@given(clean, cuts)
def test_a_text_without_tags_passes_unchanged(text: str, at: list[int]) -> None:
    assert run(cut(text, at), Start.ANSWER) == (text.lstrip(), "")
    assert run(cut(text, at), Start.THOUGHT) == ("", text)


@given(noise, noise, cuts)
def test_a_key_that_may_see_tags_in_its_answer_sees_them_only_there(
    thought: str, answer: str, at: list[int]
) -> None:
    rules = AnswerRules(loops=None, show_second_thought=True)
    text = f"{TAG.sub('', thought).replace('>', '')}{NONCE}</think>\na{answer}"
    shown, _ = run(cut(text, at), Start.THOUGHT, rules)
    assert NONCE not in shown
    assert shown == "a" + answer.replace("<|im_end|>", "")


# -- tags


@given(noise)
def test_what_may_still_become_a_tag_is_short(text: str) -> None:
    assert partial_tag(text) < MAX_TAG_CHARACTERS


@given(noise)
def test_a_beginning_of_a_tag_is_held_until_it_is_one(text: str) -> None:
    for tag in tags(text):
        for at in range(tag.start + 1, tag.end):
            assert partial_tag(text[:at]) == at - tag.start


@given(st.integers(0, MAX_TAG_SPACES + 1))
def test_more_white_space_than_that_is_no_tag(spaces: int) -> None:
    found = list(tags(f"</{' ' * spaces}think>"))
    assert len(found) == (spaces <= MAX_TAG_SPACES)
