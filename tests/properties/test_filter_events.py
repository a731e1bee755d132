"""What a choice shows, filtered: answer, thought and calls each for itself, each choice as if it
were alone, however the worker's events come in batches."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.events import ReasoningDelta, SealedReasoning, TextDelta, ToolCallDelta, Visible
from app.protocol.filters.choice_filter import ChoiceFilter, SurfaceHit
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action
from tests.properties import filter_model as model
from tests.properties.cutting import cut, cuts
from tests.properties.filter_json_model import expected, parse, typed
from tests.properties.filter_texts import CARD, EMAIL, LITERAL, Rules, rule_sets, texts

laws = settings(max_examples=120, deadline=None)
MASKED: Rules = [(LITERAL, Action.MASK), (EMAIL, Action.MASK), (CARD, Action.MASK)]


@dataclass
class Message:
    """What a client has of a choice."""

    answer: str = ""
    thought: str = ""
    calls: dict[int, ToolCallDelta] = field(default_factory=dict)
    sealed: list[SealedReasoning] = field(default_factory=list)

    def read(self, event: Visible) -> None:
        if isinstance(event, TextDelta):
            self.answer += event.text
        elif isinstance(event, ReasoningDelta):
            self.thought += event.text
        elif isinstance(event, SealedReasoning):
            self.sealed.append(event)
        elif event.index in self.calls:
            assert event.id is None
            assert event.name is None
            self.calls[event.index].arguments += event.arguments
        else:
            self.calls[event.index] = ToolCallDelta(
                event.choice, event.index, event.arguments, event.id, event.name
            )


@dataclass
class Seen:
    messages: dict[int, Message]
    blocked: set[int]
    hits: list[SurfaceHit]


def read(events: list[Visible], rules: Rules, ends: set[int]) -> Seen:
    """`ends`: behind which events a batch ends; at the last one does."""
    compiled = FilterRules(rules)
    choices = {event.choice: ChoiceFilter(event.choice, compiled) for event in events}
    messages = {choice: Message() for choice in choices}
    for at, event in enumerate(events):
        out: list[Visible] = []
        choices[event.choice].feed(event, out)
        if at in ends:
            for choice in choices.values():
                choice.flush(out)
        for shown in out:
            messages[shown.choice].read(shown)
    for index, choice in choices.items():
        out = []
        choice.close(out)
        assert choice.blocked or not choice.held
        for shown in out:
            assert shown.choice == index
            messages[index].read(shown)
    return Seen(
        messages,
        {index for index, choice in choices.items() if choice.blocked},
        [hit for choice in choices.values() for hit in choice.hits],
    )


Piece = Callable[[str], Visible]


def spoken(choice: int) -> Piece:
    return lambda text: TextDelta(choice, text)


def thought(choice: int) -> Piece:
    return lambda text: ReasoningDelta(choice, text)


def call(choice: int, index: int, arguments: object) -> ToolCallDelta:
    return ToolCallDelta(choice, index, json.dumps(arguments), f"call_{index}", "secret_4242")


@st.composite
def choices(draw: st.DrawFn, rules: Rules) -> list[list[Visible]]:
    """The events of each choice in their order. A call comes whole."""
    of_all: list[list[Visible]] = []
    for choice in range(draw(st.integers(1, 4))):
        events: list[Visible] = []
        for index in range(draw(st.integers(0, 5))):
            text = draw(texts(rules))
            kind = draw(st.sampled_from((spoken, spoken, thought, None)))
            if kind is None:
                events.append(call(choice, index, {"a": [text], text: 1}))
            else:
                events += map(kind(choice), cut(text, draw(cuts)))
        of_all.append(events)
    return of_all


@st.composite
def interleaved(draw: st.DrawFn, of_all: list[list[Visible]]) -> list[Visible]:
    turns = draw(st.permutations([choice for choice, events in enumerate(of_all) for _ in events]))
    rest = [iter(events) for events in of_all]
    return [next(rest[choice]) for choice in turns]


batch_ends = st.sets(st.integers(0, 60))


def joined(events: list[Visible], kind: type[TextDelta] | type[ReasoningDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def thoughts_of(events: list[Visible]) -> list[str]:
    """Each is over where something else begins."""
    groups = groupby(events, key=lambda event: isinstance(event, ReasoningDelta))
    return [joined(list(group), ReasoningDelta) for is_thought, group in groups if is_thought]


@laws
@given(st.data(), batch_ends)
def test_every_surface_of_every_choice_is_filtered_for_itself(
    data: st.DataObject, ends: set[int]
) -> None:
    of_all = data.draw(choices(MASKED))
    seen = read(data.draw(interleaved(of_all)), MASKED, ends)
    for choice, events in enumerate(of_all):
        message = seen.messages.get(choice, Message())
        assert message.answer == model.filtered(joined(events, TextDelta), MASKED).output
        thoughts = [model.filtered(thought, MASKED).output for thought in thoughts_of(events)]
        assert message.thought == "".join(thoughts)
        calls = [event for event in events if isinstance(event, ToolCallDelta)]
        assert list(message.calls) == [event.index for event in calls]
        for event in calls:
            shown = message.calls[event.index]
            assert (shown.id, shown.name) == (event.id, event.name)  # ours, and the client's
            assert typed(parse(shown.arguments)) == typed(expected(parse(event.arguments), MASKED))


@laws
@given(st.data(), batch_ends, batch_ends)
def test_batches_and_turns_change_nothing(
    data: st.DataObject, ends: set[int], other_ends: set[int]
) -> None:
    rules = data.draw(rule_sets)
    of_all = data.draw(choices(rules))
    once = read(data.draw(interleaved(of_all)), rules, ends)
    again = read(data.draw(interleaved(of_all)), rules, other_ends)
    assert (once.messages, once.blocked) == (again.messages, again.blocked)
    assert sorted(map(repr, once.hits)) == sorted(map(repr, again.hits))


@laws
@given(st.data(), batch_ends)
def test_each_choice_is_as_it_would_be_alone(data: st.DataObject, ends: set[int]) -> None:
    rules = data.draw(rule_sets)
    of_all = data.draw(choices(rules))
    together = read(data.draw(interleaved(of_all)), rules, ends)
    for choice, events in enumerate(of_all):
        alone = read(events, rules, ends)
        assert alone.messages.get(choice) == together.messages.get(choice)
        assert (choice in alone.blocked) == (choice in together.blocked)


@laws
@given(st.data())
def test_a_match_that_ends_one_choice_leaves_the_others(data: st.DataObject) -> None:
    rules: Rules = [(LITERAL, Action.BLOCK), (CARD, Action.MASK)]
    of_all = data.draw(choices(rules))
    seen = read(data.draw(interleaved(of_all)), rules, set())
    for choice, events in enumerate(of_all):
        held = [
            model.filtered(text, rules).blocked
            for text in (joined(events, TextDelta), *thoughts_of(events))
        ]
        in_calls = any(
            "secret" in event.arguments or model.filtered(_only_string(event), rules).blocked
            for event in events
            if isinstance(event, ToolCallDelta)
        )
        assert (choice in seen.blocked) == (any(held) or in_calls)
        message = seen.messages.get(choice, Message())
        assert "secret" not in message.answer


def _only_string(event: ToolCallDelta) -> str:
    return str(json.loads(event.arguments)["a"][0])


def test_two_calls_at_once_share_nothing() -> None:
    events: list[Visible] = [call(0, 0, {"a": "sec"}), call(0, 1, {"a": "ret"})]
    for ends in (set[int](), {0}, {0, 1}):
        seen = read(events, MASKED, ends)
        assert [shown.arguments for shown in seen.messages[0].calls.values()] == [
            '{"a": "sec"}',
            '{"a": "ret"}',
        ]
        assert not seen.hits


def test_a_long_call_comes_in_pieces_that_are_one_json() -> None:
    seen = read([call(0, 0, {"a": "x " * 40_000 + "secret"})], MASKED, set())
    assert json.loads(seen.messages[0].calls[0].arguments) == {"a": "x " * 40_000 + "[literal]"}


def test_a_word_goes_on_behind_a_call_and_behind_a_thought_and_a_thought_does_not() -> None:
    events: list[Visible] = [
        TextDelta(0, "a sec"),
        ReasoningDelta(0, "hm, sec"),
        call(0, 0, {}),
        TextDelta(0, "ret b"),
        ReasoningDelta(0, "ret"),
    ]
    for ends in (set[int](), set(range(5))):
        seen = read(events, MASKED, ends)
        assert seen.messages[0].answer == "a [literal] b"
        assert seen.messages[0].thought == "hm, secret"


def test_the_end_of_a_thought_leaves_before_the_answer() -> None:
    choice, out = ChoiceFilter(0, FilterRules(MASKED)), list[Visible]()
    for event in (ReasoningDelta(0, "so bob"), TextDelta(0, "Hello ")):
        choice.feed(event, out)
    choice.flush(out)
    assert out == [ReasoningDelta(0, "so "), ReasoningDelta(0, "bob"), TextDelta(0, "Hello ")]


def test_a_sealed_thought_is_not_read() -> None:
    sealed = SealedReasoning(0, "c2VjcmV0 secret")
    assert read([sealed], MASKED, set()).messages[0].sealed == [sealed]


@pytest.mark.parametrize("last", ["secret", "sec"])
def test_behind_the_end_of_a_choice_nothing_leaves(last: str) -> None:
    rules: Rules = [(LITERAL, Action.BLOCK)]
    events: list[Visible] = [
        TextDelta(0, "a sec"),
        ReasoningDelta(0, "secret."),
        TextDelta(0, last),
        call(0, 0, {"a": 1}),
    ]
    for ends in (set[int](), set(range(4))):
        seen = read(events, rules, ends)
        assert seen.blocked == {0}
        assert seen.messages[0] == Message(answer="a ")
