"""One look at a text for all rules at once: is there a match, may there be one, or nothing?

A rule is tried only where it may begin: behind what it looks back at first of all, and at two
characters of its own. That is one attempt a word, of the few rules that begin with its letters.
"""

import re
from collections.abc import Sequence

import regex

from app.protocol.filters.compiled import CompiledRule
from app.protocol.filters.rule import BEYOND_ASCII, Rule

_ASCII = frozenset(map(chr, range(128)))
# One negative look-behind at one class, and nothing in it that a class of `re` reads otherwise.
_LOOK_BEHIND = re.compile(r"(?:\(\?i:)?(\(\?<!\[[A-Za-z0-9_.%+-]+\]\))")
_NO_STRUCTURE = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")

# A whole word and what ends it. Most are met often, and no rule begins with them.
_WORD = re.compile(r"[A-Za-z]{2,12}[ ,.\n]")
MAX_WORDS = 16_384  # remembered; some 2 MB

Attempts = tuple[CompiledRule, ...]


class Probe:
    """Rules by the characters that they may begin with."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._starts = _starts([compiled.rule for compiled in rules])
        self._by_first: dict[str, Attempts] = {
            character: tuple(
                compiled
                for compiled in rules
                if compiled.rule.firsts is None or character in compiled.rule.firsts
            )
            for character in (*_ASCII, BEYOND_ASCII)
        }
        # Of two characters of ASCII; filled as they are met, so 16,384 at most.
        self._by_two: dict[str, Attempts] = {}
        self._words: dict[str, Attempts] = {}

    def look(self, text: str, at: int, *, final: bool) -> regex.Match[str] | None:
        """A match that is decided, or one that is `partial`: the first place where either stands.
        Behind a partial one there may be decided ones."""
        search, words = self._starts.search, self._words
        while (start := search(text, at)) is not None:
            at = start.start()
            word = _WORD.match(text, at)
            if word is None:
                attempts = self._attempts(text[at : at + 2])
            else:
                known = words.get(word[0])
                attempts = self._of_word(word[0]) if known is None else known
            for attempt in attempts:
                if final:
                    found = attempt.whole.match(text, at)
                else:
                    found = attempt.decided.match(text, at, partial=True)
                if found is not None:
                    return found
            at += 1
        return None

    def _attempts(self, two: str) -> Attempts:
        attempts = self._by_two.get(two)
        if attempts is not None:
            return attempts
        first = two[0] if two[0] < BEYOND_ASCII else BEYOND_ASCII
        attempts = self._by_first[first]
        if len(two) < 2 or not two.isascii():
            return attempts
        attempts = tuple(c for c in attempts if _may_begin(c, two))
        self._by_two[two] = attempts
        return attempts

    def _of_word(self, word: str) -> Attempts:
        attempts = tuple(c for c in self._attempts(word[:2]) if _may_begin(c, word))
        if len(self._words) >= MAX_WORDS:
            self._words.clear()
        self._words[word] = attempts
        return attempts


def _may_begin(compiled: CompiledRule, text: str) -> bool:
    """Whether a match may begin so. Where nothing stands before, the negative look-behind that a
    pattern begins with holds; what another one says there, it need not say behind other text."""
    pattern = compiled.rule.pattern
    if "(?<" in pattern[_prefix(pattern) :]:
        return True
    return compiled.whole.match(text, partial=True) is not None


def _prefix(pattern: str) -> int:
    """How long the look-behind is that all of a pattern stands behind."""
    behind = None if _alternates(pattern) else _LOOK_BEHIND.match(pattern)
    return 0 if behind is None else behind.end()


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
