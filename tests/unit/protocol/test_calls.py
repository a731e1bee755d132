"""The gate, one rule after the other."""

from typing import Any

import orjson
import pytest

from app.protocol.calls import (
    MAX_ARGUMENT_CHARACTERS,
    MAX_DEPTH,
    MAX_MATCHED_CHARACTERS,
    PIECE_CHARACTERS,
    CallGate,
)
from app.protocol.events import ToolCallDelta
from app.protocol.findings import CallRefusal, Findings, Hidden, RefusedCall
from app.protocol.rules import CallRules, ToolRule

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
OFFERED = {"weather": WEATHER, "now": None}
OSLO = '{"city": "Oslo"}'
XML = "\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n"


class Passed:
    """A gate, what it was given, and what it let through: `calls` are (id, name, arguments)."""

    def __init__(self, offered: Any = None, **rules: Any) -> None:
        self.findings = Findings()
        offered = OFFERED if offered is None else offered
        self.gate = CallGate(2, CallRules(offered, **rules), self.findings, "call_x")
        self.deltas: list[ToolCallDelta] = []

    def engine(
        self, arguments: str, name: str | None = "weather", index: int = 0, id: str | None = None
    ) -> "Passed":
        self.deltas += self.gate.feed(ToolCallDelta(2, index, arguments, id, name))
        return self

    def text(self, markup: str) -> "Passed":
        found = self.gate.found(markup)
        assert found is not None
        self.deltas += found
        return self

    def end(self, reason: str = "tool_calls") -> "Passed":
        self.deltas += self.gate.close(reason)
        return self

    @property
    def calls(self) -> list[tuple[str | None, str | None, str]]:
        heads = {delta.index: delta for delta in self.deltas if delta.name is not None}
        return [
            (
                heads[at].id,
                heads[at].name,
                "".join(d.arguments for d in self.deltas if d.index == at),
            )
            for at in sorted(heads)
        ]

    @property
    def reasons(self) -> list[CallRefusal]:
        return [refused.reason for refused in self.findings.refused_calls]


def refused(arguments: str, reason: str = "tool_calls", **rules: Any) -> list[CallRefusal]:
    """Why a call of `weather` was, having made sure that nothing of it came through."""
    passed = Passed(**rules).engine(arguments).end(reason)
    assert bool(passed.reasons) == (passed.deltas == [])
    return passed.reasons


def test_a_call_goes_out_as_openais_deltas() -> None:
    passed = Passed().engine(OSLO[:5], id="e1").engine(OSLO[5:], name=None).end()
    assert passed.deltas == [
        ToolCallDelta(2, 0, "", "e1", "weather"),
        ToolCallDelta(2, 0, OSLO),
    ]
    assert (passed.gate.released, passed.gate.refused, passed.gate.started) == (1, None, True)


def test_nothing_of_a_call_goes_out_before_it_is_whole() -> None:
    passed = Passed().engine(OSLO)
    assert passed.deltas == []
    passed.engine("{}", name="now", index=1)
    assert passed.calls == [("call_x_2_0", "weather", OSLO)]
    passed.end()
    assert passed.calls[1:] == [("call_x_2_1", "now", "{}")]


def test_long_arguments_go_out_in_pieces() -> None:
    arguments = orjson.dumps({"city": "é" * 10_000}).decode()
    passed = Passed().engine(arguments).end()
    sizes = [len(delta.arguments) for delta in passed.deltas[1:]]
    assert max(sizes) == PIECE_CHARACTERS
    assert min(sizes) > 0
    assert passed.calls[0][2] == arguments


def test_a_call_in_the_text_passes_the_same_checks() -> None:
    passed = Passed().text(XML).end("stop")
    assert passed.calls == [("call_x_2_0", "weather", '{"city":"Oslo"}')]
    passed = Passed().text(XML.replace("weather", "forbidden"))
    assert passed.deltas == []
    assert passed.reasons == [CallRefusal.NOT_OFFERED]


def test_a_call_in_the_text_follows_one_of_the_engines() -> None:
    passed = Passed().engine("{}", name="now").text(XML).end()
    assert [(delta.index, delta.name) for delta in passed.deltas if delta.name] == [
        (0, "now"),
        (1, "weather"),
    ]


def test_markup_that_is_no_whole_call_is_none_and_changes_nothing() -> None:
    passed = Passed()
    assert passed.gate.found("<function=weather>") is None
    assert not passed.gate.started
    passed.gate.cut("length")
    assert passed.gate.started
    passed.gate.cut("stop")
    reasons = [call.reason for call in passed.findings.refused_calls]
    assert reasons == [CallRefusal.CUT, CallRefusal.NOT_JSON]


def test_an_id_that_no_client_could_send_back_is_replaced() -> None:
    passed = Passed()
    for index, call_id in enumerate(("ok-1", "<think>", "x" * 65, "a\nb")):
        passed.engine(OSLO, index=index, id=call_id)
    ids = [call_id for call_id, _, _ in passed.end().calls]
    assert ids == ["ok-1", "call_x_2_1", "call_x_2_2", "call_x_2_3"]


def test_indices_have_no_gaps_whatever_the_engine_counts() -> None:
    passed = Passed().engine(OSLO, index=3).engine("{", name="now", index=5)
    passed.engine("{}", name="secret", index=7).engine("{}", name="now", index=9).end()
    assert [delta.index for delta in passed.deltas if delta.name] == [0, 1]
    assert passed.reasons == [CallRefusal.NOT_JSON, CallRefusal.NOT_OFFERED]


def test_id_and_name_that_an_engine_repeats_come_once() -> None:
    passed = Passed()
    for piece in ('{"city":', '"Oslo"}'):
        passed.engine(piece, id="e1")
    assert passed.end().calls == [("e1", "weather", '{"city":"Oslo"}')]


def test_an_engine_that_gives_every_call_the_same_index_is_understood() -> None:
    passed = Passed().engine(OSLO, id="e1").engine("{}", name="now", id="e2").end()
    assert passed.calls == [("e1", "weather", OSLO), ("e2", "now", "{}")]


def test_pieces_that_come_after_the_next_call_has_begun_are_dropped() -> None:
    passed = Passed().engine(OSLO).engine("{}", name="now", index=1)
    passed.engine('{"city": "LATE"}', name=None, index=0).end()
    assert [name for _, name, _ in passed.calls] == ["weather", "now"]
    assert "LATE" not in str(passed.deltas)


@pytest.mark.parametrize(("id", "name"), [(None, None), ("e1", "weather"), (None, "weather")])
def test_a_late_piece_makes_no_second_call_and_does_not_end_the_one_that_has_begun(
    id: str | None, name: str | None
) -> None:
    passed = Passed().engine(OSLO, id="e1").engine('{"a"', name="now", index=1, id="e2")
    passed.engine('{"city": "LATE"}', name=name, index=0, id=id)
    passed.engine(": 1}", name=None, index=1).end()
    assert passed.calls == [("e1", "weather", OSLO), ("e2", "now", '{"a": 1}')]
    assert passed.reasons == []


def test_a_call_without_an_id_is_not_begun_again_under_its_index() -> None:
    passed = Passed().engine(OSLO).engine("{}", name="now", index=1)
    passed.engine(OSLO, id="late", index=0).end()
    assert [name for _, name, _ in passed.calls] == ["weather", "now"]


def test_a_name_in_pieces_is_put_together() -> None:
    offered = {"read": None, "read_all": None}
    passed = Passed(offered).engine("", name="read", id="e1").engine("{}", name="_all").end()
    assert passed.calls == [("e1", "read_all", "{}")]
    passed = Passed(offered)
    for _ in range(10_000):
        passed.engine("", name="read").engine("", name="_all")
    assert passed.gate._pending is not None
    assert len(passed.gate._pending.name) < 100
    assert passed.end().reasons == [CallRefusal.NOT_OFFERED]


def test_empty_pieces_are_not_kept() -> None:
    passed = Passed()
    for _ in range(1_000):
        passed.engine("", name=None)
    assert passed.gate._pending is not None
    assert passed.gate._pending.pieces == []


def test_a_pattern_takes_linear_time_and_matches_the_whole_value() -> None:
    hostile = "a" * MAX_MATCHED_CHARACTERS
    for pattern, value, allowed in [
        ("(a+)+b", hostile, False),  # `re` would take 2^8192 steps
        ("Oslo", "Oslo\n", False),
        ("Oslo$", "Oslo\n", False),
        ("Oslo|Bergen", "Oslo!", False),
        ("Oslo|Bergen", "Bergen", True),
    ]:
        rule = (ToolRule("weather", {"city": pattern}),)
        text = orjson.dumps({"city": value}).decode()
        assert refused(text, allowed=rule) == ([] if allowed else [CallRefusal.NOT_ALLOWED])


def test_values_that_are_no_strings_are_matched_as_json() -> None:
    for value, pattern in [
        (None, "null"), (True, "true"), (3, "3"), (1.5, r"1\.5"), ([1, "a"], r'\[1,"a"\]'),
        ({"b": None}, r'\{"b":null\}'),
    ]:  # fmt: skip
        text = orjson.dumps({"a": value}).decode()
        for rule, count in [(ToolRule("now", {"a": pattern}), 1), (ToolRule("now", {"a": "x"}), 0)]:
            assert len(Passed(allowed=(rule,)).engine(text, name="now").end().calls) == count


@pytest.mark.parametrize(
    ("name", "kept"),
    [("secret", "secret"), ("a" * 64, "a" * 64), ("a" * 65, ""), ("a b", ""), ("<think>", "")],
)
def test_a_name_is_noted_only_where_it_is_written_as_one(name: str, kept: str) -> None:
    passed = Passed().engine("{}", name=name).end()
    assert passed.deltas == []
    assert passed.findings.refused_calls == [RefusedCall(kept, CallRefusal.NOT_OFFERED)]


def test_nothing_is_offered_where_no_tool_is() -> None:
    assert Passed(offered={}).engine(OSLO).end().reasons == [CallRefusal.NOT_OFFERED]


def test_names_are_held_against_the_keys_globs() -> None:
    allowed = (ToolRule("wea*"), ToolRule("ca[rt]"))
    assert refused(OSLO, allowed=allowed) == []
    assert refused(OSLO, allowed=()) == [CallRefusal.NOT_ALLOWED]
    assert refused(OSLO, allowed=(ToolRule("WEA*"),)) == [CallRefusal.NOT_ALLOWED]
    assert refused("{", allowed=()) == [CallRefusal.NOT_ALLOWED]


def test_arguments_are_held_against_the_keys_patterns() -> None:
    nordic = ToolRule("weather", {"city": "Oslo|Bergen", "days": "[1-3]"})
    anywhere = ToolRule("*", {"days": "1"})
    for arguments, rules, allowed in [
        ({"city": "Oslo"}, (nordic,), True),
        ({"city": "Oslo", "days": 3}, (nordic,), True),
        ({"city": "Oslo", "days": 4}, (nordic,), False),
        ({"city": "Oslo!"}, (nordic,), False),
        ({"city": "Rome", "days": 1}, (nordic, anywhere), True),
        ({"city": "Rome", "days": 2}, (nordic, anywhere), False),
    ]:
        text = orjson.dumps(arguments).decode()
        expected = [] if allowed else [CallRefusal.NOT_ALLOWED]
        assert refused(text, allowed=rules) == expected


def test_a_long_value_matches_no_pattern() -> None:
    rule = (ToolRule("weather", {"city": "x*"}),)
    for characters, expected in [
        (MAX_MATCHED_CHARACTERS, []),
        (MAX_MATCHED_CHARACTERS + 1, [CallRefusal.NOT_ALLOWED]),
    ]:
        text = orjson.dumps({"city": "x" * characters}).decode()
        assert refused(text, allowed=rule) == expected


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
