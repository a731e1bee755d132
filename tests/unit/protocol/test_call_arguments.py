"""The gate: what the arguments of a call have to be."""

from typing import Any

import orjson
import pytest

from app.protocol.calls import (
    MAX_ARGUMENT_CHARACTERS,
    MAX_DEPTH,
)
from app.protocol.findings import CallRefusal, Hidden
from app.protocol.rules import ToolRule
from tests.unit.protocol.passing import OSLO, WEATHER, XML, Passed, refused


@pytest.mark.parametrize("text", [OSLO, "\n" + OSLO + " ", '{"city":"a</tool_call>"}'])
def test_arguments_go_out_as_they_were_written(text: str) -> None:
    assert Passed().engine(text).end().calls[0][2] == text


@pytest.mark.parametrize(
    "text",
    [
        OSLO + "</tool_call>",
        OSLO + "\n</parameter>\n</function>\n</tool_call>\n",
        orjson.dumps(OSLO).decode(),
        orjson.dumps(OSLO).decode() + "</tool_call>",
    ],
)
def test_known_defects_of_engines_are_repaired(text: str) -> None:
    assert Passed().engine(text).end().calls[0][2] == OSLO


def test_no_arguments_are_an_empty_object() -> None:
    assert Passed().engine("", name="now").end().calls[0][2] == "{}"
    assert Passed().engine(" \n", name="now").end().calls[0][2] == "{}"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '"city": "Oslo"}',
        "null",
        "[]",
        "1",
        '"Oslo"',
        orjson.dumps(orjson.dumps(OSLO).decode()).decode(),
        OSLO + OSLO,
        '{"city": "\\ud800"}',
        '{"city": "\ud800"}',
        '{"city": NaN}',
        "</tool_call>" * 50_000,
    ],
)
def test_what_is_no_object_is_refused(text: str) -> None:
    assert refused(text) == [CallRefusal.NOT_JSON]


def test_deep_arguments_are_refused_before_they_break_anything() -> None:
    offered: dict[str, Any] = {"weather": None}
    for depth, expected in [
        (MAX_DEPTH - 1, []),
        (MAX_DEPTH, [CallRefusal.NOT_JSON]),
        (300, [CallRefusal.NOT_JSON]),
        (1_000, [CallRefusal.NOT_JSON]),
        (100_000, [CallRefusal.NOT_JSON]),
    ]:
        for inner in ("", '"x"'):
            text = '{"a":' + "[" * depth + inner + "]" * depth + "}"
            assert refused(text, offered=offered) == expected
            assert refused(text + "</tool_call>", offered=offered) == expected
            twice = orjson.dumps(text).decode()
            assert refused(twice, offered=offered) == expected


def test_a_call_that_length_cut_off_is_not_one_that_is_broken() -> None:
    for text in ('{"city": "Par', "", OSLO[:-1]):
        passed = Passed().engine(text).end("length")
        assert passed.deltas == []
        assert passed.reasons == [CallRefusal.CUT]
        assert passed.gate.refused is not None
        assert not passed.gate.refused.broken


def test_only_the_last_call_can_be_cut_off() -> None:
    passed = Passed().engine('{"city"').engine('{"city"', index=1).end("length")
    assert passed.reasons == [CallRefusal.NOT_JSON, CallRefusal.CUT]
    assert refused(OSLO, "length") == []


@pytest.mark.parametrize(
    "tag",
    ["<think>", "</think>", "< Think", "<\n/ THINKING>", "<think", "<thinking", "</ think foo=1>"],
)
def test_a_thought_among_the_arguments_is_never_released(tag: str) -> None:
    for value in (tag, [{"a": tag}], {tag: 1}, {"a": [[f"x {tag} y"]]}):
        text = orjson.dumps({"a": value}).decode()
        passed = Passed().engine(text, name="now").end()
        assert passed.deltas == []
        assert passed.reasons == [CallRefusal.THOUGHT]
        assert passed.findings.hidden == {Hidden.IN_ARGUMENTS: 1}
        shown = Passed(thought_in_arguments=True).engine(text, name="now").end()
        assert shown.calls[0][2] == text


def test_a_tag_in_escapes_is_one() -> None:
    assert refused('{"city": "\\u003cthi\\u006ek>"}') == [CallRefusal.THOUGHT]


@pytest.mark.parametrize("text", ["a < thinker", "think>", "I <3 thinking", "<thinkpad>"])
def test_text_that_is_no_tag_is_released(text: str) -> None:
    assert refused(orjson.dumps({"city": text}).decode()) == []


def test_only_the_value_that_was_checked_goes_out_where_a_key_comes_twice() -> None:
    text = '{"city": "<think>N0NCE", "city": "Oslo"}'
    assert Passed().engine(text).end().calls[0][2] == '{"city":"Oslo"}'
    allowed = (ToolRule("weather", {"city": "Oslo"}),)
    text = '{"city": "Rome", "c\\u0069ty": "Oslo"}'
    assert Passed(allowed=allowed).engine(text).end().calls[0][2] == '{"city":"Oslo"}'
    text = '{"a": [{"b": {"c": 1, "c": 2}}]}'
    assert Passed().engine(text, name="now").end().calls[0][2] == '{"a":[{"b":{"c":2}}]}'


def test_arguments_are_held_against_the_schema() -> None:
    assert refused('{"city": 5}') == [CallRefusal.SCHEMA]
    assert refused("{}") == [CallRefusal.SCHEMA]
    assert refused('{"city": "Oslo", "more": 1}') == [CallRefusal.SCHEMA]


def test_checks_of_one_choice_share_their_steps() -> None:
    hostile: Any = {"$ref": "#/$defs/d0", "$defs": {"d30": {"type": "string"}}}
    for at in range(30):
        hostile["$defs"][f"d{at}"] = {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2}
    passed = Passed(offered={"weather": WEATHER, "slow": hostile})
    passed.engine('{"city": 5}').engine("{}", name="slow", index=1)
    passed.engine('{"city": 5}', index=2).end()
    assert passed.reasons == [CallRefusal.SCHEMA]
    assert [name for _, name, _ in passed.calls] == ["slow", "weather"]  # which none has checked
    assert passed.gate._steps.left == 0


def test_of_parallel_calls_that_are_not_wanted_the_first_is_released() -> None:
    passed = Passed(single=True).engine("{", index=0).engine(OSLO, index=1)
    passed.engine(OSLO, index=2).text(XML).end()
    assert len(passed.calls) == 1
    assert passed.reasons == [
        CallRefusal.NOT_JSON,
        CallRefusal.ONE_TOO_MANY,
        CallRefusal.ONE_TOO_MANY,
    ]


def test_arguments_of_any_length_are_held_within_the_bound() -> None:
    passed = Passed()
    for _ in range(40):
        passed.engine("x" * 65_536)
        held = passed.gate._pending
        assert held is not None
        assert sum(map(len, held.pieces)) <= MAX_ARGUMENT_CHARACTERS
    assert passed.end().reasons == [CallRefusal.TOO_LONG]
    assert passed.deltas == []
    whole = orjson.dumps({"city": "x" * (MAX_ARGUMENT_CHARACTERS - 11)}).decode()
    assert len(whole) == MAX_ARGUMENT_CHARACTERS
    assert refused(whole) == []


def test_the_first_refusal_is_told_and_a_broken_call_before_others() -> None:
    passed = Passed().engine("{}", name="secret").engine("{", index=1)
    passed.engine('{"city": 5}', index=2).end()
    assert passed.gate.refused is CallRefusal.NOT_JSON


def test_a_closed_gate_holds_nothing() -> None:
    passed = Passed().engine(OSLO).end()
    assert passed.gate.close("stop") == []
    assert passed.gate._pending is None
