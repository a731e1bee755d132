"""The gate that every tool call of a choice passes, whoever parsed it.

A call is held until it is whole, checked, and then let through as OpenAI's deltas, or not at all:
no client acts on a call that was not offered, not allowed, or broken.
"""

import json
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

import orjson
from pydantic_core import SchemaValidator, core_schema

from app.protocol.events import ToolCallDelta
from app.protocol.findings import CallRefusal, Findings, Hidden
from app.protocol.request import Json
from app.protocol.rules import CallRules, ToolRule
from app.protocol.schema import ArgumentChecker, Steps
from app.protocol.tool_markup import parse_call

MAX_ARGUMENT_CHARACTERS = 1024 * 1024
PIECE_CHARACTERS = 4096  # of arguments, in one delta
MAX_MATCHED_CHARACTERS = 8 * 1024  # a pattern is not run over longer values: they are not allowed
MAX_DEPTH = 128  # of arrays and objects in each other; orjson writes 254 of them
MAX_SCRUBS = 8
MAX_NAME_CHARACTERS = 64  # as OpenAI has it; what is longer was not offered

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # any other is replaced by one of ours
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_CHARACTERS}}}")
_THINK_TAG = re.compile(r"<\s{0,8}/?\s{0,8}think(?:ing)?\b", re.IGNORECASE)
# Markup that engines' parsers have left behind the arguments.
_SCRUBS = ("</tool_call>", "</function>", "</parameter>")


class _Refused(Exception):
    def __init__(self, reason: CallRefusal) -> None:
        super().__init__(reason)
        self.reason = reason


class _Pending:
    """A call of which pieces have come. `index` is the engine's."""

    def __init__(self, index: int, call_id: str | None = None, name: str = "") -> None:
        self.index = index
        self.id = call_id
        self.name = name
        self.pieces: list[str] = []
        self.characters = 0

    def add(self, arguments: str) -> None:
        self.characters += len(arguments)
        if arguments and self.characters <= MAX_ARGUMENT_CHARACTERS:
            self.pieces.append(arguments)

    def take(self, delta: ToolCallDelta) -> None:
        """Another name under the same id is the rest of it: half of one may be another tool's."""
        self.id = self.id or delta.id
        if delta.name and delta.name != self.name and len(self.name) <= MAX_NAME_CHARACTERS:
            self.name += delta.name
        self.add(delta.arguments)

    def goes_on(self, delta: ToolCallDelta) -> bool:
        """Some engines count no further than 0: another name with another id is another call."""
        return delta.index == self.index and not (
            delta.name and delta.id and self.id and delta.id != self.id
        )


class _Arguments(NamedTuple):
    """As they may go out, and what they say; `texts` are all strings in them, keys included."""

    text: str
    value: Json
    texts: list[str]


class CallGate:
    """Calls of one choice in, deltas of those that were let through out.

    What it holds is bounded: of one call, MAX_ARGUMENT_CHARACTERS. All checks against schemas
    share one budget of steps: an answer of many calls costs no more than one.
    """

    def __init__(self, choice: int, rules: CallRules, findings: Findings, call_prefix: str) -> None:
        self._choice = choice
        self._rules = rules
        self._findings = findings
        self._call_prefix = call_prefix
        self._pending: _Pending | None = None
        # By the engine's index: the ids of the calls that were decided under it.
        self._decided: dict[int, set[str | None]] = {}
        self._steps = Steps()
        self._checkers: dict[str, ArgumentChecker] = {}
        self._ids: set[str] = set()
        self.released = 0
        self.refused: CallRefusal | None = None  # the first one; a broken call before others
        self.started = False  # a call was begun, whatever became of it

    def feed(self, delta: ToolCallDelta) -> list[ToolCallDelta]:
        """A piece from the engine's own parser. A call is whole when the next one begins."""
        self.started = True
        call, out = self._pending, []
        if call is None or not call.goes_on(delta):
            if self._comes_too_late(delta):
                return []
            out = self._flush("")
            call = self._pending = _Pending(delta.index)
        call.take(delta)
        return out

    def _comes_too_late(self, delta: ToolCallDelta) -> bool:
        """It belongs to a call that was decided: only a name with a new id begins another one."""
        ids = self._decided.get(delta.index)
        if ids is None:
            return False
        return not (delta.name and delta.id) or delta.id in ids or None in ids

    def found(self, markup: str) -> list[ToolCallDelta] | None:
        """A call that stands in the text; None where it is not whole."""
        call = parse_call(markup, self._rules.offered)
        if call is None:
            return None
        self.started = True
        out = self._flush("")
        pending = _Pending(0, None, call.name)
        pending.add(call.arguments)
        return [*out, *self._decide(pending, "")]

    def cut(self, reason: str = "stop") -> None:
        """A call in the text never became whole; a choice that ended by itself did not cut it."""
        self.started = True
        self._refuse("", CallRefusal.CUT if reason == "length" else CallRefusal.NOT_JSON)

    def close(self, reason: str) -> list[ToolCallDelta]:
        """The end of the choice, and why it ended: `length` may have cut the last call."""
        return self._flush(reason)

    def _flush(self, reason: str) -> list[ToolCallDelta]:
        call, self._pending = self._pending, None
        if call is None:
            return []
        self._decided.setdefault(call.index, set()).add(call.id)
        return self._decide(call, reason)

    def _decide(self, call: _Pending, reason: str) -> list[ToolCallDelta]:
        try:
            arguments = self._checked(call, reason)
        except _Refused as refused:
            self._refuse(call.name, refused.reason)
            return []
        index, self.released = self.released, self.released + 1
        call_id = call.id or ""
        if call_id in self._ids or not _ID.fullmatch(call_id):
            call_id = f"{self._call_prefix}_{self._choice}_{index}"
        self._ids.add(call_id)
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
        arguments = _read("".join(call.pieces), cut=reason == "length")
        if rules.allowed is not None and not any(_fits(rule, arguments.value) for rule in granted):
            raise _Refused(CallRefusal.NOT_ALLOWED)
        if not rules.thought_in_arguments and any(map(_THINK_TAG.search, arguments.texts)):
            self._findings.hide(Hidden.IN_ARGUMENTS)
            raise _Refused(CallRefusal.THOUGHT)
        if self._checker(call.name).mismatch(arguments.value) is not None:
            raise _Refused(CallRefusal.SCHEMA)
        if rules.single and self.released:
            raise _Refused(CallRefusal.ONE_TOO_MANY)
        return arguments.text

    def _checker(self, name: str) -> ArgumentChecker:
        checker = self._checkers.get(name)
        if checker is None:
            checker = ArgumentChecker(self._rules.offered[name], self._steps)
            self._checkers[name] = checker
        return checker


def _read(text: str, *, cut: bool) -> _Arguments:
    """The arguments, as they were written where they can be. Raises _Refused."""
    broken = _Refused(CallRefusal.CUT if cut else CallRefusal.NOT_JSON)
    if not text.strip():
        if cut:  # what would have come is not known
            raise broken
        return _Arguments("{}", {}, [])
    value = _json(text)
    if value is None:
        text = _scrubbed(text)
        value = _json(text)
    if isinstance(value, str):  # serialised twice
        text, value = value, _json(value)
    if not isinstance(value, dict):
        raise broken
    texts = _texts(value)
    if _doubled(text):
        # Another reader may take the first of two values where we have checked the last.
        text = orjson.dumps(value).decode()
    return _Arguments(text, value, texts)


def _scrubbed(text: str) -> str:
    text = text.strip()
    for _ in range(MAX_SCRUBS):
        scrub = next(filter(text.endswith, _SCRUBS), None)
        if scrub is None:
            break
        text = text.removesuffix(scrub).rstrip()
    return text


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _texts(value: Json) -> list[str]:
    """Level by level: recursion would end at hostile depths. Raises _Refused over MAX_DEPTH."""
    texts: list[str] = []
    level: list[Json | list[object]] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Json | list[object]] = []
        for outer in level:
            if isinstance(outer, dict):
                texts += outer
            for inner in outer.values() if isinstance(outer, dict) else outer:
                if isinstance(inner, str):
                    texts.append(inner)
                elif isinstance(inner, dict | list):
                    below.append(inner)
        if not below:
            return texts
        level = below
    raise _Refused(CallRefusal.NOT_JSON)


class _Doubled(ValueError):
    pass


def _distinct(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _Doubled


def _doubled(text: str) -> bool:
    """Whether an object in this JSON text, which is not too deep, has a key twice."""
    try:
        json.loads(text, object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except ValueError:
        return True
    return False


def _fits(rule: ToolRule, arguments: Json) -> bool:
    """Every argument that the rule names, where it is there, is as the rule has it."""
    for name, pattern in rule.arguments.items():
        if name not in arguments:
            continue
        value = arguments[name]
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if len(text) > MAX_MATCHED_CHARACTERS or not _compiled(pattern).isinstance_python(text):
            return False
    return True


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> SchemaValidator:
    """Rust's regular expressions take linear time, whatever an operator wrote and a model wrote
    for it; `re` would not. Lone surrogates match nothing."""
    return SchemaValidator(core_schema.str_schema(pattern=rf"\A(?:{pattern})\z"))
