"""Schemas, as clients send them, and as hostile ones do."""

import socket
from typing import Any

import pytest

from app.protocol.schema import MAX_REASON_CHARACTERS, MAX_STEPS, ArgumentChecker, Steps

CATASTROPHIC = "(a+)+$"
SLOW = "a" * 64 + "!"  # the pattern takes 2^64 steps over it


def of(value: Any) -> dict[str, Any]:
    """A schema whose `a` is as `value` says."""
    return {"type": "object", "properties": {"a": value}}


def steps_of(schema: dict[str, Any], arguments: dict[str, Any]) -> tuple[str | None, int]:
    """The result, and what it cost."""
    steps = Steps()
    result = ArgumentChecker(schema, steps).mismatch(arguments)
    return result, MAX_STEPS - steps.left


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, 3, "3"),
        ({"type": ["string", "null"]}, None, 3),
        ({"enum": ["c", "f"]}, "c", "k"),
        ({"const": 1}, 1, 2),
        ({"minimum": 1, "maximum": 9}, 5, 10),
        ({"type": "array", "items": {"type": "string"}}, ["x"], [1]),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 3, []),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, 3, []),
        ({"not": {"type": "string"}}, 3, "x"),
        ({"type": "object", "required": ["b"]}, {"b": 1}, {}),
        ({"type": "object", "additionalProperties": False}, {}, {"b": 1}),
        ({"type": "object", "propertyNames": {"enum": ["b"]}}, {"b": 1}, {"c": 1}),
        ({"if": {"const": 1}, "then": False}, 2, 1),
        ({"contains": {"const": 1}}, [1], [2]),
        ({"dependentRequired": {"b": ["c"]}}, {"b": 1, "c": 1}, {"b": 1}),
        ({"type": "string", "nullable": True}, None, 3),
        ({"type": "string", "enum": ["c"], "nullable": True}, None, "k"),
    ],
)
def test_a_value_is_held_against_its_schema(schema: Any, good: Any, bad: Any) -> None:
    assert ArgumentChecker(of(schema)).mismatch({"a": good}) is None
    assert ArgumentChecker(of(schema)).mismatch({"a": bad}) is not None


def test_without_a_schema_everything_passes() -> None:
    assert ArgumentChecker(None).mismatch({"a": object()}) is None


def test_references_within_the_schema_are_followed() -> None:
    schema = {**of({"$ref": "#/$defs/City"}), "$defs": {"City": {"type": "string"}}}
    assert ArgumentChecker(schema).mismatch({"a": "Oslo"}) is None
    assert ArgumentChecker(schema).mismatch({"a": 1}) is not None


def test_a_schema_that_is_named_and_refers_to_itself_is_followed() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/tree",
        **of({"type": "array", "items": {"$ref": "#"}}),
    }
    assert ArgumentChecker(schema).mismatch({"a": [{"a": []}]}) is None
    assert ArgumentChecker(schema).mismatch({"a": [{"a": 1}]}) is not None


def test_the_reason_is_a_place_in_the_schema_without_values() -> None:
    reason = ArgumentChecker(of({"type": "integer"})).mismatch({"a": "N0NCE"})
    assert reason == "properties/a/type"
    deep: dict[str, Any] = {"type": "integer"}
    arguments: Any = "x"
    for _ in range(20):
        deep, arguments = {"properties": {"a" * 64: deep}}, {"a" * 64: arguments}
    reason = ArgumentChecker(deep).mismatch(arguments)
    assert reason is not None
    assert len(reason) == MAX_REASON_CHARACTERS


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"type": 5},
        {"type": []},
        {"multipleOf": 0},
        {"exclusiveMinimum": True},  # draft 4
        {"minLength": "9"},
        {"required": True},
        {"required": "name"},
        {"required": [1]},
        {"dependentRequired": {"b": "cd"}},
        {"enum": "abc"},
        {"anyOf": []},
        {"allOf": {}},
        {"not": "x"},
        {"items": [{"type": "string"}]},  # draft 7
        {"properties": []},
        {"properties": {"b": 5}},
        {"$ref": 5},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#anchor"},
        {"$ref": "https://example.invalid/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$dynamicRef": "#a"},
        {"$id": 5, "type": "string"},
        {"$id": "https://example.invalid/", "type": "string"},
        "no schema",
        None,
    ],
)
def test_an_invalid_schema_is_as_none(schema: Any) -> None:
    for value in ({"b": 1}, ["x"], 1, 1.5, None, True):
        assert ArgumentChecker(of(schema)).mismatch({"a": value}) is None


def test_a_schema_that_is_no_object_is_as_none() -> None:
    schema: Any
    for schema in ([], "x", 5):
        assert ArgumentChecker(schema).mismatch({"a": 1}) is None


@pytest.mark.parametrize(
    "schema",
    [
        of({"pattern": CATASTROPHIC}),
        {"patternProperties": {CATASTROPHIC: False}},
        {"patternProperties": {CATASTROPHIC: {}}, "additionalProperties": False},
        {"patternProperties": {CATASTROPHIC: {}}, "unevaluatedProperties": False},
        {"propertyNames": {"pattern": CATASTROPHIC}},
        {"properties": {SLOW: {"pattern": CATASTROPHIC}}},
        # A dialect of its own would bring the library's own keywords back.
        of({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": CATASTROPHIC}),
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "allOf": [{"$ref": "#/definitions/x"}],
            "definitions": {
                "x": {
                    "$schema": "http://json-schema.org/draft-04/schema#",
                    "patternProperties": {CATASTROPHIC: False},
                }
            },
        },
    ],
)
def test_no_pattern_is_ever_run(schema: Any) -> None:
    assert steps_of(schema, {"a": SLOW, SLOW: SLOW}) == (None, pytest.approx(10, abs=10))


@pytest.mark.parametrize("word", ["pattern", "format", "uniqueItems", "patternProperties"])
@pytest.mark.parametrize(
    "schema",
    [
        lambda rule: {"not": rule},
        lambda rule: {"oneOf": [{"type": ["string", "array", "object"], **rule}, rule]},
        lambda rule: {"if": rule, "then": False},
        lambda rule: {"not": {"allOf": [{"anyOf": [rule]}]}},
    ],
)
def test_what_is_passed_over_refuses_nothing_where_it_is_negated(word: str, schema: Any) -> None:
    rule = {word: {"pattern": "^x", "format": "date", "uniqueItems": True}.get(word, {"^x": False})}
    for value in ("a", [1, 1], {"x": 1}):
        assert ArgumentChecker(of(schema(rule))).mismatch({"a": value}) is None


def test_other_rules_beside_a_pattern_still_hold() -> None:
    schema = of({"type": "string", "pattern": "^x", "maxLength": 2})
    assert ArgumentChecker(schema).mismatch({"a": "abc"}) == "properties/a/maxLength"


def doubling(depth: int) -> dict[str, Any]:
    """2^depth ways lead to the end."""
    places: dict[str, Any] = {
        f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(depth)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**places, f"d{depth}": {"type": "object"}}}


def test_an_exponential_schema_ends_with_its_steps() -> None:
    assert steps_of(doubling(40), {}) == (None, MAX_STEPS)
    negated = {"not": {"$ref": "#/$defs/d0"}, "$defs": doubling(40)["$defs"]}
    assert steps_of(negated, {}) == (None, MAX_STEPS)
    result, cost = steps_of(doubling(3), {})
    assert result is None
    assert cost < 100


def test_a_schema_that_refers_to_itself_without_end_ends() -> None:
    assert ArgumentChecker({"$ref": "#"}).mismatch({}) is None
    assert ArgumentChecker({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}).mismatch({}) is None


def test_large_rules_cost_more_steps_than_small_ones() -> None:
    enum = of({"items": {"enum": [f"v{at}" for at in range(4_000)]}})
    assert steps_of(enum, {"a": ["v3999"] * 1_000}) == (None, MAX_STEPS)
    required = of({"items": {"required": [f"v{at}" for at in range(4_000)]}})
    assert steps_of(required, {"a": [{}] * 1_000})[0] is not None
    assert steps_of({"anyOf": [required, required]}, {"a": [{}] * 1_000}) == (None, MAX_STEPS)


@pytest.mark.parametrize("word", ["const", "enum"])
def test_comparing_with_a_large_value_many_times_costs_steps(word: str) -> None:
    large = [list(range(8_000))]
    rule = {"const": large} if word == "const" else {"enum": [large]}
    assert steps_of(of({"allOf": [rule] * 200}), {"a": large}) == (None, MAX_STEPS)
    result, cost = steps_of(of(rule), {"a": large})
    assert result is None
    assert 1_000 < cost < MAX_STEPS
    assert ArgumentChecker(of(rule)).mismatch({"a": [[1]]}) is not None


@pytest.mark.parametrize("word", ["$ref", "$dynamicRef", "$schema", "$id"])
def test_nothing_is_fetched(word: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for schema in ({word: address}, of({word: address}), of({"allOf": [{word: address}]})):
            ArgumentChecker(schema).mismatch({"a": 1})
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


@pytest.mark.parametrize("word", ["multipleOf", "minimum", "maximum", "minLength", "const"])
def test_huge_numbers_end(word: str) -> None:
    for number in (10**400, -(10**400), 1e308, 5e-324):
        for value in (1e308, 2**63, -1, 0.3, "x"):
            reason = ArgumentChecker(of({word: number})).mismatch({"a": value})
            assert reason in (None, f"properties/a/{word}")


def test_a_schema_that_is_too_deep_to_build_or_to_compare_is_as_none() -> None:
    schema: dict[str, Any] = {"type": "string"}
    deep: Any = 1
    for _ in range(5_000):
        schema, deep = {"allOf": [schema]}, [deep]
    assert ArgumentChecker(schema).mismatch({"a": 1}) is None
    assert ArgumentChecker(of({"const": deep})).mismatch({"a": deep}) is None


def test_quoting_a_long_value_many_times_costs_steps() -> None:
    schema = of({"anyOf": [{"type": "integer"}] * 1_000})
    assert steps_of(schema, {"a": "x" * 200_000}) == (None, MAX_STEPS)


def test_one_long_value_is_checked() -> None:
    schema = of({"type": "string"})
    assert steps_of(schema, {"a": "x" * 1_000_000})[1] < 20
    assert ArgumentChecker(of({"type": "integer"})).mismatch({"a": "x" * 1_000_000}) is not None


def test_checkers_share_the_steps_that_they_are_given() -> None:
    steps = Steps(40)
    schema = of({"type": "integer"})
    checkers = [ArgumentChecker(schema, steps) for _ in range(40)]
    results = [checker.mismatch({"a": "x"}) for checker in checkers]
    assert results[0] is not None
    assert results[-1] is None
    assert steps.left == 0


def test_without_given_steps_each_check_has_its_own() -> None:
    checker = ArgumentChecker(doubling(40))
    assert checker.mismatch({}) is None
    plain = ArgumentChecker(of({"type": "integer"}))
    assert all(plain.mismatch({"a": "x"}) for _ in range(20))


def test_deep_values_and_schemas_end() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    value: dict[str, Any] = {}
    for _ in range(5_000):
        value = {"a": value}
    assert ArgumentChecker(schema).mismatch(value) is None
