"""Strings in JSON filtered, so that what comes out is JSON of the same shape."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Hit
from app.protocol.filters.text_filter import TextFilter

# Of JSON that is known to be valid. A string before a colon is a name.
_TOKEN = re.compile(
    r'(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")(?P<name>[ \t\r\n]*:)?'
    r"|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<brace>[{}])",
    re.DOTALL,
)


MAX_UNDERSCORES = 4


class Blocked(Exception):
    """A text holds what it may not: `hit`."""

    def __init__(self, hit: Hit) -> None:
        super().__init__(hit.rule)
        self.hit = hit


class JsonFilter:
    """Every string is filtered, names included; numbers are read as they are written, and one that
    is masked becomes a string. Places in `hits` are those within the one string."""

    def __init__(self, rules: FilterRules) -> None:
        self._rules = rules
        self.hits: list[tuple[str, Hit]] = []  # with `where` the value stands, as the caller says

    def text(self, text: str, where: str = "") -> str:
        """JSON text; all that needs no mask stays as it was written, and of members that have the
        same name each is filtered. Raises Blocked, and ValueError for what is no JSON."""
        orjson.loads(text)
        out: list[str] = []
        names: list[set[str]] = []  # of the objects that are open
        masked: list[set[str]] = []  # of these, those that are ours
        done = 0
        for token in _TOKEN.finditer(text):
            if token["brace"] is not None:
                for of_open in (names, masked):
                    of_open.append(set()) if token["brace"] == "{" else of_open.pop()
                continue
            string, number = token["string"], token["number"]
            value = number if string is None else orjson.loads(string)
            shown = self._filtered(value, where)
            if token["name"] is not None:
                if shown != value or shown in masked[-1]:
                    shown = _distinct(shown, names[-1])
                    masked[-1].add(shown)
                names[-1].add(shown)
            if shown != value:
                start, end = token.span("string" if number is None else "number")
                out += (text[done:start], orjson.dumps(shown).decode())
                done = end
        return "".join((*out, text[done:])) if out else text

    def value(self, value: Any, where: str = "") -> Any:
        """A copy with every string filtered. Raises Blocked; recursion ends at orjson's depth."""
        if isinstance(value, str):
            return self._filtered(value, where)
        if isinstance(value, dict):
            return self._object(value, where)
        if isinstance(value, list | tuple):
            return [self.value(inner, where) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            written = str(value)
            filtered = self._filtered(written, where)
            return value if filtered == written else filtered
        return value

    def _object(self, value: dict[str, Any], where: str) -> dict[str, Any]:
        filtered: dict[str, Any] = {}
        for name, inner in value.items():
            filtered[_distinct(self._filtered(name, where), filtered)] = self.value(inner, where)
        return filtered

    def _filtered(self, text: str, where: str) -> str:
        reader = TextFilter(self._rules)
        shown = reader.feed(text) + reader.close()
        self.hits += [(where, hit) for hit in reader.hits]
        if reader.blocked:
            raise Blocked(next(hit for hit in reader.hits if hit.action is Action.BLOCK))
        return shown


def _distinct(name: str, names: Collection[str]) -> str:
    """Two names that are masked alike are still two. Many are counted: an underscore more for each
    would take quadratic time."""
    shown = name
    for _ in range(MAX_UNDERSCORES):
        if shown not in names:
            return shown
        shown += "_"
    count = len(names)
    while f"{name}_{count}" in names:
        count += 1
    return f"{name}_{count}"


def filter_json(text: str, rules: FilterRules) -> tuple[str, Sequence[Hit]]:
    """JSON text filtered, and the hits. Raises Blocked and ValueError."""
    reader = JsonFilter(rules)
    filtered = reader.text(text)
    return filtered, [hit for _, hit in reader.hits]
