"""A tool call that a model wrote as text, read: Qwen's XML, or Hermes' JSON.

    <tool_call>                                  <tool_call>
    <function=get_weather>                       {"name": "get_weather",
    <parameter=city>                              "arguments": {"city": "Oslo"}}
    Oslo                                         </tool_call>
    </parameter>
    </function>
    </tool_call>

XML says nothing of types, so each value becomes what the tool's schema says that it is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from app.protocol.request import Json

FUNCTION = "<function="
FUNCTION_END = "</function>"
PARAMETER = "<parameter="
PARAMETER_END = "</parameter>"
MAX_NAME_CHARACTERS = 256  # of a function or a parameter, up to its `>`
MAX_SCHEMA_NODES = 64  # that are looked at for the types of one parameter
MAX_POINTER_CHARACTERS = 256  # of a `$ref`

_SPACE = re.compile(r"\s*")
_JSON_TYPES = frozenset({"integer", "number", "boolean", "object", "array"})
# Stands for arguments that cannot be written as JSON again: too deep, or with half of a surrogate
# pair. It is no object, so nobody will take it for arguments.
_UNWRITABLE = "null"


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """`arguments` is JSON text, not looked at: the gate finds out whether it is an object."""

    name: str
    arguments: str


def parse_call(markup: str, schemas: Mapping[str, Json | None]) -> ParsedCall | None:
    """What stands between `<tool_call>` and its end, or from `<function=` to `</function>`.

    `schemas` are those of the arguments of the tools there are. None where it is no whole call.
    """
    text = markup.strip()
    if text.startswith("{"):
        return _from_json(text)
    if text.startswith(FUNCTION) and text.endswith(FUNCTION_END):
        return _from_xml(text, schemas)
    return None


def _from_json(text: str) -> ParsedCall | None:
    try:
        call = orjson.loads(text)
    except ValueError:
        return None
    name = call.get("name")
    if not isinstance(name, str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    return ParsedCall(name, arguments if isinstance(arguments, str) else _written(arguments))


def _from_xml(text: str, schemas: Mapping[str, Json | None]) -> ParsedCall | None:
    last = len(text) - len(FUNCTION_END)
    end = text.find(">", len(FUNCTION), min(last, len(FUNCTION) + MAX_NAME_CHARACTERS))
    if end < 0:
        return None
    name = text[len(FUNCTION) : end].strip()
    schema = schemas.get(name) or {}
    properties = schema.get("properties")
    types: dict[str, frozenset[str]] = {}
    arguments: Json = {}
    try:
        for key, value in _parameters(text, end + 1, last):
            if key not in types:
                declared = properties.get(key) if isinstance(properties, dict) else None
                types[key] = _types(declared, schema)
            arguments[key] = _typed(value, types[key])
    except ValueError:  # cut short
        return None
    return ParsedCall(name, _written(arguments))


def _written(arguments: object) -> str:
    try:
        return orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError:
        return _UNWRITABLE


def _parameters(text: str, at: int, end: int) -> Iterator[tuple[str, str]]:
    """Raises ValueError where something else stands there."""
    while (at := _behind_space(text, at, end)) < end:
        if not text.startswith(PARAMETER, at):
            raise ValueError("no parameter")
        named = text.index(">", at, min(end, at + MAX_NAME_CHARACTERS))
        closed = text.index(PARAMETER_END, named, end)
        # The model may write of parameters in a value; the next one begins behind the last end.
        following = text.find(PARAMETER, closed, end)
        closed = text.rindex(PARAMETER_END, named, end if following < 0 else following)
        value = text[named + 1 : closed].removeprefix("\n").removesuffix("\n")
        yield text[at + len(PARAMETER) : named].strip(), value
        at = closed + len(PARAMETER_END)


def _behind_space(text: str, at: int, end: int) -> int:
    space = _SPACE.match(text, at, end)
    return at if space is None else space.end()


def _typed(value: str, types: frozenset[str]) -> object:
    """As the schema wants it; where it cannot be that it stays text, which will be refused."""
    text = value.strip()
    if "null" in types and text == "null":
        return None
    if "string" in types and not text.startswith(("{", "[")):
        return value
    if "null" in types and text in ("", "None"):  # the words of a model that has read much Python
        return None
    if "boolean" in types and text in ("True", "False"):
        return text == "True"
    if not types & _JSON_TYPES:
        return value
    try:
        parsed = orjson.loads(text)
    except ValueError:
        return value
    if not types & _types_of(parsed):
        return value
    if isinstance(parsed, int | float) and not isinstance(parsed, bool):
        return orjson.Fragment(text)  # with all of its digits
    return parsed


def _types_of(value: object) -> frozenset[str]:
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            return frozenset({"integer", "number"} if value.is_integer() else {"number"})
        case str():
            return frozenset({"string"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})


def _types(declared: object, root: Json) -> frozenset[str]:
    """The types that a part of the schema `root` speaks of, also in its branches, and in those
    that it names by a pointer into `root`. The schema is the client's: no more of it is looked at
    than MAX_SCHEMA_NODES."""
    types: set[str] = set()
    nodes, todo = 0, [declared]
    while todo and nodes < MAX_SCHEMA_NODES:
        nodes += 1
        node = todo.pop()
        if not isinstance(node, dict):
            continue
        named = node.get("type")
        if isinstance(named, str):
            types.add(named)
        elif isinstance(named, list):
            types.update(name for name in named[:MAX_SCHEMA_NODES] if isinstance(name, str))
        else:  # the values that it lists have types
            listed = node.get("enum")
            listed = listed[:MAX_SCHEMA_NODES] if isinstance(listed, list) else []
            for value in [*listed, *([node["const"]] if "const" in node else [])]:
                types |= _types_of(value)
        if node.get("nullable") is True:
            types.add("null")
        for word in ("anyOf", "oneOf", "allOf"):
            branches = node.get(word)
            if isinstance(branches, list):
                todo += branches[:MAX_SCHEMA_NODES]
        todo.append(_pointed_at(node.get("$ref"), root))
    return frozenset(types)


def _pointed_at(pointer: object, root: Json) -> object:
    if not isinstance(pointer, str) or len(pointer) > MAX_POINTER_CHARACTERS:
        return None
    if not pointer.startswith("#/"):
        return None
    place: object = root
    for step in pointer[2:].split("/"):
        if not isinstance(place, dict):
            return None
        place = place.get(step.replace("~1", "/").replace("~0", "~"))
    return place
