"""What of a message is not kept: secrets of ours always, and what an operator's rules find."""

from collections.abc import Callable
from typing import Any

from app.audit.content.canonical import canonical
from app.audit.content.compression import MAX_BODY_BYTES
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.json_filter import JsonFilter
from app.protocol.filters.rule import Action
from app.protocol.request import Json
from app.store.secrets import scrub_bytes

STRUCTURAL = frozenset({"role", "type"})  # words of the protocol, which no rule may change
NOT_REDACTED = b'{"redacted":"failed"}'  # stands for a text that could not be searched


def masking(*sets: FilterRules) -> FilterRules:
    """The rules of all of them, each masking what it matches, whatever it did there. What is
    stored of a question and of an answer that is sent back later has to be the same, so both are
    searched for all."""
    rules = dict.fromkeys(rule for of_set in sets for rule, _ in of_set.rules)
    return FilterRules([(rule, Action.MASK) for rule in rules])


class Redaction:
    """Turns JSON values into the bodies that are stored. For any thread.

    `rules` mask (see `masking`). Where they fail, the text is not stored: NOT_REDACTED is, and
    `failed` is called with the error.
    """

    def __init__(
        self,
        rules: FilterRules | None = None,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.rules = rules
        self.failed = failed

    @property
    def masks(self) -> bool:
        return bool(self.rules)

    def scrubbed(self, value: Json) -> bytes:
        """As it was sent, but for secrets of ours: a millisecond a megabyte."""
        return scrub_bytes(canonical(value))

    def masked(self, value: Json) -> bytes:
        """As it is stored. With many rules that takes half a second a megabyte. Never fails."""
        if not self.rules:
            return self.scrubbed(value)
        try:
            body = canonical(_masked(value, JsonFilter(self.rules)))
            if len(body) > MAX_BODY_BYTES:
                raise ValueError(f"masked, a message has {len(body)} bytes")
        except Exception as error:  # noqa: BLE001 - whatever failed, the text was not searched
            self.failed(error)
            return NOT_REDACTED
        return scrub_bytes(body)


def _masked(value: Json, texts: JsonFilter) -> Json:
    """The names at the top are the protocol's, and stay."""
    return {
        name: inner if name in STRUCTURAL else _masked_field(name, inner, texts)
        for name, inner in value.items()
    }


def _masked_field(name: str, value: Any, texts: JsonFilter) -> Any:
    if name == "tool_calls" and value is not None:
        return [_masked_call(call, texts) for call in value]
    return texts.value(value)


def _masked_call(call: Json, texts: JsonFilter) -> Json:
    function = {name: texts.value(inner) for name, inner in call["function"].items()}
    function["arguments"] = _masked_arguments(call["function"]["arguments"], texts)
    return {**_masked({**call, "function": None}, texts), "function": function}


def _masked_arguments(arguments: str, texts: JsonFilter) -> str:
    """JSON in a string, whose escapes would hide a match."""
    try:
        return texts.text(arguments)
    except ValueError:  # no JSON, as where an answer was cut: a text like any other
        masked: str = texts.value(arguments)
        return masked
