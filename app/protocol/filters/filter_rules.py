"""The rules of a filter, compiled together: one search tells what of a text may go out.

What a rule means, `regex` says alone. Of a search for all of them at once, the answers are "there
is a match", "from here on there may be one", and "nothing": only the first needs each rule's own.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import hyperscan

from app.protocol.filters.compiled import CompiledRule
from app.protocol.filters.fold import MAX_INVISIBLE
from app.protocol.filters.probe import Probe
from app.protocol.filters.rule import Action, Rule

LONGEST_ESCAPE_CHARACTERS = 10  # `&#x10ffff;`: see views.py


class RuleSet:
    """Rules that act alike on the flow of the text. An empty one finds nothing."""

    def __init__(self, rules: Iterable[tuple[int, Rule, Action]]) -> None:
        self.rules = tuple(CompiledRule(order, rule, action) for order, rule, action in rules)
        self.bound = max((compiled.rule.bound for compiled in self.rules), default=0)
        self.behind = max((compiled.rule.behind for compiled in self.rules), default=0)

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def prepared(self) -> bool:
        return not self.rules or "narrow" in self.__dict__

    def prepare(self) -> None:
        """What is compiled once, of which a stream should not wait for a second or two."""
        if self.rules:
            _ = self.probe, self.narrow

    @cached_property
    def probe(self) -> Probe:
        return Probe(self.rules)

    @cached_property
    def narrow(self) -> Callable[[str], Sequence[CompiledRule]]:
        """Which rules may have a match in a long text: at least those that have one."""
        databases = [_database(self.rules, flags) for flags in (0, _UNICODE)]
        always = [
            dict.fromkeys(_read_otherwise(self.rules, is_ascii=flag)) for flag in (True, False)
        ]

        def narrow(text: str) -> Sequence[CompiledRule]:
            kind = not text.isascii()
            found = dict(always[kind])
            # A scratch space is for one scan at a time, and threads scan at once.
            database = databases[kind]
            scratch = database.scratch.clone()
            database.scan(
                text.encode("utf-8", "surrogatepass"),
                match_event_handler=lambda index, *_: found.setdefault(index),
                scratch=scratch,
            )
            return [self.rules[index] for index in sorted(found)]

        return narrow


class FilterRules:
    """What a filter does about which rules: compiled once, shared by all requests.

    `hold_characters` is the most that a stream ever holds back. Raises `regex.error` or
    `hyperscan.error` for what they cannot compile.
    """

    def __init__(self, rules: Sequence[tuple[Rule, Action]]) -> None:
        ordered = [(order, rule, action) for order, (rule, action) in enumerate(rules)]
        self.enforced = RuleSet(entry for entry in ordered if entry[2] is not Action.FLAG)
        self.flagged = RuleSet(entry for entry in ordered if entry[2] is Action.FLAG)
        self.rules = tuple(rules)
        # Each character of a match may be an escape, and behind each of its own invisible ones.
        self.hold_characters = (
            (self.enforced.bound + 1) * LONGEST_ESCAPE_CHARACTERS * (1 + MAX_INVISIBLE)
        )

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def prepared(self) -> bool:
        return self.enforced.prepared and self.flagged.prepared

    def prepare(self) -> None:
        """Takes a second or two, and is not for the event loop."""
        self.enforced.prepare()
        self.flagged.prepare()


# A superset of what a pattern means will do: look-arounds are left out.
_NARROWING = hyperscan.HS_FLAG_PREFILTER | hyperscan.HS_FLAG_SINGLEMATCH
_UNICODE = hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_UCP


def _database(rules: Sequence[CompiledRule], flags: int) -> hyperscan.Database:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[_loosened(compiled.rule.pattern).encode() for compiled in rules],
        ids=list(range(len(rules))),
        elements=len(rules),
        flags=_NARROWING | flags,
    )
    return database


_REPEAT = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|\{(?P<least>[0-9]*),[0-9]+\}", re.DOTALL)
_CODE_POINT = re.compile(r"\\[uU]([0-9A-Fa-f]{4,8})")


# Beyond ASCII the engines differ about these, and about letters of two cases.
_DIFFERENT = re.compile(r"\\[wWsS]|\(\?[a-z]*i")


def _read_otherwise(rules: Sequence[CompiledRule], *, is_ascii: bool) -> list[int]:
    """The indexes of rules that are always looked for: here the engine that narrows may see less in
    them than the one that decides."""
    return [
        index
        for index, compiled in enumerate(rules)
        if not compiled.rule.pattern.isascii()
        or _CODE_POINT.search(compiled.rule.pattern)
        or (not is_ascii and _DIFFERENT.search(compiled.rule.pattern))
    ]


def _loosened(pattern: str) -> str:
    """With repeats that have no upper bound: what this matches is more, and compiles in a tenth of
    the time. Code points in the engine's own spelling."""

    def loosen(token: re.Match[str]) -> str:
        if token["least"] is None:
            return _CODE_POINT.sub(r"\\x{\1}", token[0])
        return f"{{{token['least'] or 0},}}"

    return _REPEAT.sub(loosen, pattern)
