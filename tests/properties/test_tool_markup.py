"""Calls that a model wrote as text: what is read is what was meant, and nothing ever raises."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.tool_markup import ParsedCall, parse_call

names = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=12)
# No surrogates: they are no JSON; 64 bits, as orjson writes them.
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
noise = st.lists(
    st.sampled_from(
        [
            "<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=",
            "</parameter>", ">", "f", "a", "\n", " ", '"', "{", "}", ":", ",", "1", "\ud800", "é",
        ]
    )
    | st.text(max_size=3),
    max_size=40,
).map("".join)  # fmt: skip


def type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def xml(name: str, arguments: dict[str, Any]) -> str:
    """As the template's instruction says: strings as they are, all else as JSON."""
    parameters = "".join(
        f"<parameter={key}>\n"
        f"{value if isinstance(value, str) else orjson.dumps(value).decode()}\n</parameter>\n"
        for key, value in arguments.items()
    )
    return f"\n<function={name}>\n{parameters}</function>\n"


def schema_of(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"type": type_of(value)} for key, value in arguments.items()},
    }


def read(markup: str, schemas: dict[str, Any]) -> tuple[str, Any]:
    call = parse_call(markup, schemas)
    assert call is not None
    return call.name, orjson.loads(call.arguments)


def typed(text: str, schema: object, **root: Any) -> Any:
    """What `<parameter=a>` says under a schema."""
    return read(
        f"<function=f><parameter=a>\n{text}\n</parameter></function>",
        {"f": {"properties": {"a": schema}, **root}},
    )[1]["a"]


def meant(value: object) -> bool:
    """No value may hold the end of a parameter."""
    if isinstance(value, str):
        return "</parameter>" not in value and "<parameter=" not in value
    if isinstance(value, list):
        return all(map(meant, value))
    if isinstance(value, dict):
        return all(meant(key) and meant(inner) for key, inner in value.items())
    return True


@given(names, st.dictionaries(names, values.filter(meant), max_size=5))
def test_xml_round_trips_values_of_every_type(name: str, arguments: dict[str, Any]) -> None:
    assert read(xml(name, arguments), {name: schema_of(arguments)}) == (name, arguments)


@given(names, st.dictionaries(names, values, max_size=5), st.sampled_from(["object", "text"]))
def test_hermes_json_round_trips(name: str, arguments: dict[str, Any], form: str) -> None:
    inner = arguments if form == "object" else orjson.dumps(arguments).decode()
    for key in ("arguments", "parameters"):
        markup = "\n" + orjson.dumps({"name": name, key: inner}).decode() + "\n"
        assert read(markup, {}) == (name, arguments)


@given(names, st.dictionaries(names, values.filter(meant), max_size=4), st.data())
def test_a_call_that_is_cut_is_none(name: str, arguments: dict[str, Any], data: Any) -> None:
    schemas = {name: schema_of(arguments)}
    for markup in (
        xml(name, arguments).strip(),
        orjson.dumps({"name": name, "arguments": arguments}).decode(),
    ):
        at = data.draw(st.integers(0, len(markup) - 1))
        call = parse_call(markup[:at], schemas)
        # Only a value that looks like the end of a call may make a whole call of a part.
        assert call is None or "</function>" in markup[: at - 1]


@given(noise, st.sampled_from(["", "<function=f>", "{", '{"name":"f","arguments":']))
def test_no_text_raises(text: str, start: str) -> None:
    call = parse_call(start + text, {"f": {"properties": {"a": {"type": "integer"}}}})
    if call is not None:
        assert isinstance(call.arguments, str)


@given(texts, values)
def test_whatever_is_read_from_xml_is_a_json_object(text: str, schema: Any) -> None:
    call = parse_call(
        f"<function=f><parameter=a>{text}</parameter></function>",
        {"f": {"properties": {"a": schema}}},
    )
    if call is not None:
        assert isinstance(orjson.loads(call.arguments), dict)


@given(texts)
def test_a_string_stays_as_it_was_written(text: str) -> None:
    if meant(text):
        assert typed(text, {"type": "string"}) == text
        assert typed(text, {}) == text


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("123", {"type": "string"}, "123"),
        ("true", {"type": "string"}, "true"),
        ("null", {"type": "string"}, "null"),
        ("null", {"type": ["string", "null"]}, None),
        ("null", {"type": "string", "nullable": True}, None),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("", {"type": ["string", "null"]}, ""),
        ("None", {"type": ["string", "null"]}, "None"),
        ("None", {"type": ["integer", "null"]}, None),
        ("", {"type": ["integer", "null"]}, None),
        ("3", {"type": ["string", "integer"]}, "3"),
        ("3", {"type": "integer"}, 3),
        (" 3 ", {"type": "integer"}, 3),
        ("3.0", {"type": "integer"}, 3.0),
        ("3.5", {"type": "integer"}, "3.5"),
        ("three", {"type": "integer"}, "three"),
        ("true", {"type": "number"}, "true"),
        ("1e3", {"type": "number"}, 1000.0),
        ("NaN", {"type": "number"}, "NaN"),
        ("true", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("1", {"type": "boolean"}, "1"),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("[1, 2]", {"type": "object"}, "[1, 2]"),
        ("[1, 2]", {"type": ["string", "object"]}, "[1, 2]"),
        ('{"b": 1}', {"type": ["string", "object"]}, {"b": 1}),
        ('{"b": 1}', {"oneOf": [{"type": "object"}, {"type": "null"}]}, {"b": 1}),
        ('{"b": 1}', {"allOf": [{"$ref": "#/$defs/B"}]}, {"b": 1}),
        ("2", {"$ref": "#/$defs/a~1n"}, 2),
        ("2", {"$ref": "#/$defs/missing/more"}, "2"),
        ("2", {"$ref": "https://example.invalid/"}, "2"),
        ("2", {"enum": [1, 2]}, 2),
        ("2", {"const": 2}, 2),
        ("2", {"enum": ["1", "2"]}, "2"),
        ("2", {"type": "string", "enum": [1, 2]}, "2"),
        ("null", {"enum": ["a", None]}, None),
        ("2", {"enum": 2}, "2"),
        ("2", "no schema", "2"),
        ("2", {"type": 5}, "2"),
    ],
)
def test_a_value_is_typed_by_its_schema(text: str, schema: object, value: object) -> None:
    got = typed(text, schema, **{"$defs": {"B": {"type": "object"}, "a/n": {"type": "integer"}}})
    assert got == value
    assert type(got) is type(value)


def test_a_number_keeps_all_of_its_digits() -> None:
    digits = "123456789012345678901234567890"
    call = parse_call(
        f"<function=f><parameter=a>{digits}</parameter></function>",
        {"f": {"properties": {"a": {"type": "integer"}}}},
    )
    assert call == ParsedCall("f", f'{{"a":{digits}}}')


@pytest.mark.parametrize(
    "value",
    [
        "a < b && c > d",
        "<think>\nplan\n</think>",
        "<tool_call>\n<function=g>\n</function>\n</tool_call>",
        "line\n\nline",
        " indented\n",
        "<parameter=b>",
        "see </parameter> there",
        "\u2028\u0085\U0001f600",
    ],
)
def test_a_value_may_hold_nearly_anything(value: str) -> None:
    markup = f"\n<function=f>\n<parameter=a>\n{value}\n</parameter>\n</function>\n"
    assert read(markup, {"f": None}) == ("f", {"a": value})


def test_a_closing_tag_within_a_value_does_not_end_the_call() -> None:
    whole = "\n<function=f>\n<parameter=a>\nsay </tool_call> now\n</parameter>\n</function>\n"
    assert parse_call(whole[: whole.index("</tool_call>")], {}) is None
    assert read(whole, {}) == ("f", {"a": "say </tool_call> now"})
    whole = '{"name": "f", "arguments": {"a": "say </tool_call> now"}}'
    assert parse_call(whole[: whole.index("</tool_call>")], {}) is None
    assert read(whole, {}) == ("f", {"a": "say </tool_call> now"})


@pytest.mark.parametrize(
    "markup",
    [
        "", "  ", "{}", "[]", '"f"', '{"name": 5}', '{"arguments": {}}', '{"name": "f"',
        "<function=f>", "<function=f", "<function=f</function>", "</function>",
        "<function=f>words</function>",
        "<function=f><parameter=a>1</function>", "<function=f><parameter=a</parameter></function>",
        "<function=" + "f" * 300 + "></function>",
        "<function=f><parameter=" + "a" * 300 + ">1</parameter></function>",
        '{"name": "f", "arguments": {}} and more',
    ],
)  # fmt: skip
def test_what_is_no_whole_call_is_none(markup: str) -> None:
    assert parse_call(markup, {"f": None}) is None


def test_of_two_values_of_one_parameter_the_last_one_counts() -> None:
    two = "<parameter=a>1</parameter><parameter=a>2</parameter>"
    assert read(f"<function=f>{two}</function>", {}) == ("f", {"a": "2"})


def test_what_cannot_be_written_as_json_is_no_object() -> None:
    deep = "[" * 500 + "]" * 500
    schemas = {"f": {"properties": {"a": {"type": "array"}}}}
    for markup in (
        f'{{"name":"f","arguments":{{"a":{deep}}}}}',
        f"<function=f><parameter=a>{deep}</parameter></function>",
        "<function=f><parameter=a>\ud800</parameter></function>",
        "<function=f><parameter=\udfff>x</parameter></function>",
    ):
        assert parse_call(markup, schemas) == ParsedCall("f", "null")


def test_a_mebibyte_is_read() -> None:
    many = "x" * 1024 * 1024
    assert read(f"<function=f><parameter=a>\n{many}\n</parameter></function>", {})[1]["a"] == many
    for hostile in ("<parameter=", "<parameter=a>", "</parameter>", "<", "\n", "</function>"):
        text = hostile * (1024 * 1024 // len(hostile))
        parse_call(f"<function=f>{text}</function>", {})
        parse_call(f"<function=f><parameter=a>{text}</parameter></function>", {})


def test_a_schema_of_many_branches_is_not_searched_to_its_end() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(10):
        schema = {"anyOf": [schema] * 64}  # 64^10 ways
    assert typed("1", schema) in (1, "1")
    assert typed("1", {"$ref": "#/$defs/L"}, **{"$defs": {"L": {"$ref": "#/$defs/L"}}}) == "1"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number: float) -> None:
    assert math.isclose(typed(repr(number), {"type": "number"}), number, rel_tol=0)
