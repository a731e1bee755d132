"""The gate, one rule after the other."""

import orjson
import pytest

from app.protocol.calls import (
    MAX_MATCHED_CHARACTERS,
    PIECE_CHARACTERS,
)
from app.protocol.events import ToolCallDelta
from app.protocol.findings import CallRefusal, RefusedCall
from app.protocol.rules import ToolRule
from tests.unit.protocol.passing import OSLO, XML, Passed, refused


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
