"""Strings in JSON filtered, so that what comes out is JSON of the same shape."""

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Hit
from app.protocol.filters.text_filter import TextFilter


class Blocked(Exception):
    """A text holds what it may not: `hit`."""

    def __init__(self, hit: Hit) -> None:
        super().__init__(hit.rule)
        self.hit = hit


class JsonFilter:
    """Every string is filtered, keys included, but for what stands at `structural` keys and is no
    object; numbers are read as they are written, and one that is masked becomes a string. Places in
    `hits` are those within the one string."""

    def __init__(self, rules: FilterRules, structural: Collection[str] = ()) -> None:
        self._rules = rules
        self._structural = structural
        self.hits: list[tuple[str, Hit]] = []  # with `where` the value stands, as the caller says

    def text(self, text: str, where: str = "") -> str:
        """JSON text. What needs no mask stays as it was written. Raises Blocked, and ValueError
        for what is no JSON."""
        value = orjson.loads(text)
        filtered = self.value(value, where)
        return text if filtered == value else orjson.dumps(filtered).decode()

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
        filtered = {}
        for key, inner in value.items():
            if key in self._structural and not isinstance(inner, dict):
                filtered[key] = inner
                continue
            shown = self._filtered(key, where)
            while shown in filtered:  # two keys that are masked alike
                shown += "_"
            filtered[shown] = self.value(inner, where)
        return filtered

    def _filtered(self, text: str, where: str) -> str:
        reader = TextFilter(self._rules)
        shown = reader.feed(text) + reader.close()
        self.hits += [(where, hit) for hit in reader.hits]
        if reader.blocked:
            raise Blocked(next(hit for hit in reader.hits if hit.action is Action.BLOCK))
        return shown


def filter_json(text: str, rules: FilterRules) -> tuple[str, Sequence[Hit]]:
    """JSON text filtered, and the hits. Raises Blocked and ValueError."""
    reader = JsonFilter(rules)
    filtered = reader.text(text)
    return filtered, [hit for _, hit in reader.hits]
