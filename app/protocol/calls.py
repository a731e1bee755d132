"""The gate that every tool call of a choice passes, whoever parsed it.

A call is held until it is whole, checked, and then let through as OpenAI's deltas, or not at all:
no client acts on a call that was not offered, not allowed, or broken.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

import orjson

from app.protocol.events import ToolCallDelta
from app.protocol.findings import CallRefusal, Findings, Hidden
from app.protocol.request import Json
from app.protocol.rules import CallRules, ToolRule
from app.protocol.schema import ArgumentChecker
from app.protocol.tool_markup import parse_call

MAX_ARGUMENT_CHARACTERS = 1024 * 1024
PIECE_CHARACTERS = 4096  # of arguments, in one delta
MAX_MATCHED_CHARACTERS = 8 * 1024  # a pattern is not run over longer values: they are not allowed

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_THINK_TAG = re.compile(r"<\s{0,8}/?\s{0,8}think(?:ing)?\b", re.IGNORECASE)
# Markup that engines' parsers have left behind the arguments.
_SCRUBS = ("</tool_call>", "</function>", "</parameter>")


class _Refused(Exception):
    def __init__(self, reason: CallRefusal) -> None:
        super().__init__(reason)
        self.reason = reason


class _Pending:
    """A call of which pieces have come."""

    def __init__(self, call_id: str | None, name: str) -> None:
        self.id = call_id
        self.name = name
        self.pieces: list[str] = []
        self.characters = 0


class CallGate:
    """Calls of one choice in, deltas of those that were let through out."""

    def __init__(self, choice: int, rules: CallRules, findings: Findings, call_prefix: str) -> None:
        self._choice = choice
        self._rules = rules
        self._findings = findings
        self._call_prefix = call_prefix
        self._pending: dict[int, _Pending] = {}
        self.released = 0
        self.refused: CallRefusal | None = None  # the first one; a broken call before others
        self.started = False  # a call was begun, whatever became of it

    def feed(self, delta: ToolCallDelta) -> list[ToolCallDelta]:
        """A piece from the engine's own parser. A call is whole when the next one begins."""
        self.started = True
        out: list[ToolCallDelta] = []
        call = self._pending.get(delta.index)
        if call is None:
            out = self._flush("")
            call = self._pending[delta.index] = _Pending(delta.id, delta.name or "")
        call.id = call.id or delta.id
        call.name = call.name or delta.name or ""
        call.characters += len(delta.arguments)
        if call.characters <= MAX_ARGUMENT_CHARACTERS:
            call.pieces.append(delta.arguments)
        return out

    def found(self, markup: str) -> list[ToolCallDelta] | None:
        """A call that stands in the text; None where it is not whole."""
        call = parse_call(markup, self._rules.offered)
        if call is None:
            return None
        self.started = True
        pending = _Pending(None, call.name)
        pending.pieces.append(call.arguments)
        pending.characters = len(call.arguments)
        return [*self._flush(""), *self._decide(pending, "")]

    def cut(self) -> None:
        """A call in the text never became whole."""
        self.started = True
        self._refuse("", CallRefusal.CUT)

    def close(self, reason: str) -> list[ToolCallDelta]:
        """The end of the choice, and why it ended: `length` may have cut the last call."""
        return self._flush(reason)

    def _flush(self, reason: str) -> list[ToolCallDelta]:
        pending, self._pending = self._pending, {}
        return [delta for call in pending.values() for delta in self._decide(call, reason)]

    def _decide(self, call: _Pending, reason: str) -> list[ToolCallDelta]:
        try:
            arguments = self._checked(call, reason)
        except _Refused as refused:
            self._refuse(call.name, refused.reason)
            return []
        index, self.released = self.released, self.released + 1
        call_id = call.id or f"{self._call_prefix}_{self._choice}_{index}"
        return [
            ToolCallDelta(self._choice, index, "", call_id, call.name),
            *(
                ToolCallDelta(self._choice, index, arguments[at : at + PIECE_CHARACTERS])
                for at in range(0, len(arguments), PIECE_CHARACTERS)
            ),
        ]

    def _refuse(self, name: str, reason: CallRefusal) -> None:
        if self.refused is None or (reason.broken and not self.refused.broken):
            self.refused = reason
        self._findings.refuse(name if _NAME.fullmatch(name) else "", reason)

    def _checked(self, call: _Pending, reason: str) -> str:
        """The arguments as they may go out. Raises _Refused."""
        rules = self._rules
        if call.name not in rules.offered:
            raise _Refused(CallRefusal.NOT_OFFERED)
        granted = [rule for rule in rules.allowed or () if fnmatchcase(call.name, rule.name)]
        if rules.allowed is not None and not granted:
            raise _Refused(CallRefusal.NOT_ALLOWED)
        if call.characters > MAX_ARGUMENT_CHARACTERS:
            raise _Refused(CallRefusal.TOO_LONG)
        text, arguments = _read("".join(call.pieces), cut=reason == "length")
        if rules.allowed is not None and not any(_matches(rule, arguments) for rule in granted):
            raise _Refused(CallRefusal.NOT_ALLOWED)
        if not rules.thought_in_arguments and any(map(_THINK_TAG.search, _texts(arguments))):
            self._findings.hide(Hidden.IN_ARGUMENTS)
            raise _Refused(CallRefusal.THOUGHT)
        if ArgumentChecker(rules.offered[call.name]).mismatch(arguments) is not None:
            raise _Refused(CallRefusal.SCHEMA)
        if rules.single and self.released:
            raise _Refused(CallRefusal.ONE_TOO_MANY)
        return text


def _read(text: str, *, cut: bool) -> tuple[str, Json]:
    """The text of a JSON object, as it was written where it can be, and what it says.

    Raises _Refused.
    """
    value = _json(text)
    if isinstance(value, dict):
        return text, value
    if not text.strip():
        return "{}", {}
    if value is None:
        scrubbed = text.strip()
        while scrubbed.endswith(_SCRUBS):
            scrubbed = scrubbed[: scrubbed.rindex("<")].rstrip()
        value = _json(scrubbed)
    if isinstance(value, str):  # serialised twice
        value = _json(value)
    if not isinstance(value, dict):
        raise _Refused(CallRefusal.CUT if cut else CallRefusal.NOT_JSON)
    return orjson.dumps(value).decode(), value


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _matches(rule: ToolRule, arguments: Json) -> bool:
    """Every argument that the rule names, where it is there, is as the rule has it."""
    for name, pattern in rule.arguments.items():
        if name not in arguments:
            continue
        value = arguments[name]
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if len(text) > MAX_MATCHED_CHARACTERS or not _compiled(pattern).fullmatch(text):
            return False
    return True


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
