"""JSON read with nothing lost, and what a filter has to make of it."""

import json
from decimal import Decimal
from typing import Any

from tests.properties import filter_model as model
from tests.properties.filter_texts import Rules


class Number(str):
    """As it was written; equal to what is as much."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and Decimal(self) == Decimal(other)

    __hash__ = None  # type: ignore[assignment]  # as Python has it


class Members(list[Any]):
    """Of an object, in order."""


def parse(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=Members,
        parse_int=Number,
        parse_float=Number,
        parse_constant=_no_json,
    )


def _no_json(text: str) -> Any:
    raise AssertionError(f"{text} is no JSON")


def expected(value: Any, rules: Rules) -> Any:
    """The model, string by string."""
    if isinstance(value, Members):
        names = list[str]()
        for name, _ in value:
            shown = model.filtered(name, rules).output
            while shown in names:  # two that are masked alike are still two
                shown += "_"
            names.append(shown)
        return Members(
            [(name, expected(v, rules)) for name, (_, v) in zip(names, value, strict=True)]
        )
    if isinstance(value, list):
        return [expected(member, rules) for member in value]
    if isinstance(value, Number):
        seen = model.filtered(str(value), rules)
        return value if seen.output == str(value) else seen.output
    return model.filtered(value, rules).output if isinstance(value, str) else value


def typed(value: Any) -> Any:
    """A number is another thing than the string that reads the same."""
    if isinstance(value, Members):
        return "object", [(typed(k), typed(v)) for k, v in value]
    if isinstance(value, list):
        return "array", [typed(member) for member in value]
    return type(value).__name__, value
