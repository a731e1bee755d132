"""One look at a text for all rules at once: is there a match, may there be one, or nothing?

A rule is tried only where it may begin: at a character of its own, and behind what it looks back at
first of all. That is one attempt a word, of the few rules that begin with its first letter.
"""

import re
from collections.abc import Sequence

import regex

from app.protocol.filters.rule import BEYOND_ASCII, Rule

# Behind an atomic match one character more has to come: then no longer match is possible. Where the
# text ends before that, `partial=True` says so.
DECIDED = r"[\s\S]"

_ASCII = frozenset(map(chr, range(128)))
# One negative look-behind at one class, and nothing in it that a class of `re` reads otherwise.
_LOOK_BEHIND = re.compile(r"(?:\(\?i:)?(\(\?<!\[[A-Za-z0-9_.%+-]+\]\))")
_NO_STRUCTURE = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")


class Probe:
    """Rules compiled by their first characters."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._starts = _starts(rules)
        open_heads: dict[tuple[str, ...], _Head] = {}
        self._heads: dict[str, _Head] = {}
        for character in sorted(_ASCII | {BEYOND_ASCII}):
            patterns = tuple(
                rule.pattern for rule in rules if rule.firsts is None or character in rule.firsts
            )
            if patterns:
                head = open_heads.get(patterns)
                if head is None:
                    head = open_heads[patterns] = _Head(patterns)
                self._heads[character] = head

    def look(self, text: str, at: int, *, final: bool) -> regex.Match[str] | None:
        """The first match that is decided, or, if it is `partial`, the first that is not. Both are
        the first only of their kind where another stands before them."""
        heads, search = self._heads, self._starts.search
        while (start := search(text, at)) is not None:
            at = start.start()
            character = text[at]
            head = heads.get(character if character < BEYOND_ASCII else BEYOND_ASCII)
            if head is not None:
                if final:
                    found = head.whole.match(text, at)
                else:
                    found = head.decided.match(text, at, partial=True)
                if found is not None:
                    return found
            at += 1
        return None


class _Head:
    """Rules that may begin with the same characters."""

    def __init__(self, patterns: Sequence[str]) -> None:
        together = "|".join(f"(?>{pattern})" for pattern in patterns)
        self.whole: regex.Pattern[str] = regex.compile(together)
        self.decided: regex.Pattern[str] = regex.compile(f"(?:{together}){DECIDED}")


def _starts(rules: Sequence[Rule]) -> re.Pattern[str]:
    """Where any rule may begin: a superset."""
    groups: dict[str, set[str]] = {}
    for rule in rules:
        behind = None if _alternates(rule.pattern) else _LOOK_BEHIND.match(rule.pattern)
        firsts = groups.setdefault("" if behind is None else behind[1], set())
        firsts |= _ASCII | {BEYOND_ASCII} if rule.firsts is None else rule.firsts
    return re.compile("|".join(f"{b}{_class(firsts)}" for b, firsts in groups.items()) or r"(?!)")


def _alternates(pattern: str) -> bool:
    """Whether what a pattern begins with goes for one of its alternatives only."""
    bare = _NO_STRUCTURE.sub("", pattern)
    if bare.startswith("(?i:") and bare.endswith(")"):
        bare = bare[len("(?i:") : -1]
    while (fewer := _INNERMOST.sub("", bare)) != bare:
        bare = fewer
    return "|" in bare


def _class(characters: set[str]) -> str:
    beyond = r"\x80-\U0010ffff" if BEYOND_ASCII in characters else ""
    ascii_only = sorted(characters - {BEYOND_ASCII})
    return "[" + "".join(rf"\x{ord(character):02x}" for character in ascii_only) + beyond + "]"
