"""A list of phrases as patterns."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from app.protocol.filters.fold import fold

GAP = r"[\s-]{1,3}"  # for a space: a line break, a hyphen, two spaces after a full stop
# Letters of scripts that put spaces between words, and digits. In the others, and beside them, a
# word has no edge that could be seen: Chinese text has names in Latin letters right within it.
EDGE = "[0-9A-Za-z_\u00c0-\u02af\u0370-\u058f\u1e00-\u1eff]"
# Of a list as long as a rule may have, hyperscan compiles patterns of this length in some 5 s, such
# of 2,000 characters in a minute; it takes none of 16,000.
MAX_PATTERN_CHARACTERS = 400
_EDGE = re.compile(EDGE)


def phrase_patterns(phrases: Sequence[str]) -> Iterator[str]:
    """Any of them, as whole words; to be matched ignoring case. A long list makes several patterns,
    in the order of the alphabet, so that few of them may begin at any one place."""
    words = {tuple(written.split()) for phrase in phrases for written in _written(phrase)}
    part: list[tuple[str, ...]] = []
    characters = 0
    for phrase in sorted(words):
        length = len(_body(phrase))
        if part and characters + length > MAX_PATTERN_CHARACTERS:
            yield _any_of(part)
            part, characters = [], 0
        part.append(phrase)
        characters += length
    yield _any_of(part)


def _any_of(phrases: Sequence[tuple[str, ...]]) -> str:
    """Longest first: of two that begin at one place, the one that says more is the match."""
    ordered = sorted(phrases, key=lambda words: (-len(" ".join(words)), words))
    before = [_before(phrase) for phrase in ordered]
    after = [_after(phrase) for phrase in ordered]
    # Once for all of them, where that says the same: a search asks it once at each place.
    head = tail = ""
    if len(set(before)) == 1:
        head, before = before[0], [""] * len(ordered)
    if len(set(after)) == 1:
        tail, after = after[0], [""] * len(ordered)
    any_of = "|".join(map("".join, zip(before, map(_body, ordered), after, strict=True)))
    return f"{head}(?:{any_of}){tail}"


def _body(words: tuple[str, ...]) -> str:
    return GAP.join(map(re.escape, words))


def _written(phrase: str) -> Iterator[str]:
    """As folded text has it; and for text as it is, where folding takes letters apart."""
    yield fold(unicodedata.normalize("NFC", phrase))
    if not phrase.isascii():
        yield unicodedata.normalize("NFC", phrase)
        yield unicodedata.normalize("NFD", phrase)


def _before(words: tuple[str, ...]) -> str:
    return f"(?<!{EDGE})" if _EDGE.match(words[0][0]) else ""


def _after(words: tuple[str, ...]) -> str:
    return f"(?!{EDGE})" if _EDGE.match(words[-1][-1]) else ""
