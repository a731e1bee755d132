"""A list of phrases as patterns."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from app.protocol.filters.fold import fold

GAP = r"[\s-]{1,3}"  # for a space: a line break, a hyphen, two spaces after a full stop
# Letters of scripts that put spaces between words, and digits. In the others, and beside them, a
# word has no edge that could be seen: Chinese text has names in Latin letters right within it.
EDGE = "[0-9A-Za-z_\u00c0-\u02af\u0370-\u058f\u1e00-\u1eff]"
AFTER = f"(?!{EDGE})"
# What hyperscan needs to compile a pattern grows with its square: 2,000 phrases take some 7 s in
# patterns of this length, and minutes in one.
MAX_PATTERN_CHARACTERS = 400
_EDGE = re.compile(EDGE)


class _Node(dict[str, "_Node"]):
    """What phrases go on with, in parts of a pattern. An empty part: one ends here."""

    def add(self, parts: Iterable[str]) -> None:
        node = self
        for part in parts:
            node = node.setdefault(part, _Node())
        node[""] = _Node()

    def pattern(self) -> str:
        """Longest first: of two that begin at one place, the one that says more is the match."""
        ends = "" in self
        branches = sorted(
            (part + node.pattern() for part, node in self.items() if part),
            # An end of a word, which is no letter, however long it is written.
            key=lambda branch: (branch.startswith(AFTER), -len(branch), branch),
        )
        if len(branches) == 1 and not ends:
            return branches[0]
        if not branches:
            return ""
        return f"(?:{'|'.join(branches)}){'?' if ends else ''}"


def phrase_patterns(phrases: Sequence[str]) -> Iterator[str]:
    """Any of them, as whole words; to be matched ignoring case. A long list makes several patterns,
    in the order of the alphabet, so that few of them may begin at any one place."""
    words = {tuple(written.split()) for phrase in phrases for written in _written(phrase)}
    part: list[tuple[str, ...]] = []
    characters = 0
    for phrase in sorted(words):
        length = sum(map(len, phrase))
        if part and characters + length > MAX_PATTERN_CHARACTERS:
            yield _any_of(part)
            part, characters = [], 0
        part.append(phrase)
        characters += length
    yield _any_of(part)


def _any_of(phrases: Sequence[tuple[str, ...]]) -> str:
    before = [_before(phrase) for phrase in phrases]
    after = [_after(phrase) for phrase in phrases]
    # Once for all of them, where that says the same: a search asks it once at each place.
    head = tail = ""
    if len(set(before)) == 1:
        head, before = before[0], [""] * len(phrases)
    if len(set(after)) == 1:
        tail, after = after[0], [""] * len(phrases)
    root = _Node()
    for words, first, last in zip(phrases, before, after, strict=True):
        root.add(part for part in (first, *_parts(words), last) if part)
    return head + root.pattern() + tail


def _parts(words: tuple[str, ...]) -> Iterator[str]:
    for index, word in enumerate(words):
        if index:
            yield GAP
        yield from map(re.escape, word)


def _written(phrase: str) -> Iterator[str]:
    """As folded text has it; and for text as it is, where folding takes letters apart."""
    phrase = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in phrase)
    yield fold(unicodedata.normalize("NFC", phrase))
    if not phrase.isascii():
        yield unicodedata.normalize("NFC", phrase)
        yield unicodedata.normalize("NFD", phrase)


def _before(words: tuple[str, ...]) -> str:
    return f"(?<!{EDGE})" if _EDGE.match(words[0][0]) else ""


def _after(words: tuple[str, ...]) -> str:
    return AFTER if _EDGE.match(words[-1][-1]) else ""
