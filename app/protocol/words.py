"""Words of a text as a lexicon knows them: folded to a-z and digits, in the singular.

A text is read by pieces, so that no call into `re` holds the interpreter for long; where they are
cut changes nothing.
"""

import re
import unicodedata
from collections.abc import Iterator, Set

from app.protocol.filters.fold import fold

ANY_NUMBER = "#"
WILDCARD = "*"

# The ways in which a lexicon writes a word of a text: empty where it does not know it.
Readings = tuple[str, ...]

# A line of base64 has 76 characters at most; what is longer is read as several runs.
MAX_RUN_CHARACTERS = 128
# Of letters, digits and signs. What has more, in one run, is base64, a digest or a key: it is one
# unknown word, or an image would be full of short ones. A long name of a test has fewer.
MAX_RUN_PARTS = 8
# Distinct runs of one prompt that are remembered, at about 150 bytes each.
MAX_KNOWN_RUNS = 32 * 1024

# Letters, digits, signs of currency, what joins words, what base64 is made of; and what may stand
# in them unseen: accents, soft hyphens, zero width.
_RUN = re.compile(
    r"[\w$€£¥+/=\-\u00ad\u0300-\u036f\u200b-\u200f\u2060-\u2064\ufeff]"
    rf"{{1,{MAX_RUN_CHARACTERS}}}"
)
_UNSEEN = re.compile(r"[^\w$+/=\-]+")
_PART = re.compile(r"[a-z]+|[0-9]+|\$")
_JOINT = re.compile(r"[_+/=\-]+")
_PASSED_OVER = frozenset(
    _PART.findall(
        "a an the my your his her its our their this that these those s "  # s: the landlord's
        "der das den dem des ein eine einen einem einer mein meine meinen meinem meiner "
        "le la les l un une mon ma mes el los las una mi mis"
    )
)
_NO_PLURALS = frozenset(["damages", "rights", "savings"])  # the singular says something else
_LETTERS = str.maketrans(  # they have no accent to take away
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "€": "$", "£": "$", "¥": "$"}
)


def words_of(run: str) -> list[str]:
    """The words of a run of characters, without articles and possessives; "" is one that no lexicon
    knows."""
    plain = _plain(run)
    if len(_PART.findall(plain)) > MAX_RUN_PARTS:
        return [""]
    names = _JOINT.split(plain)
    return [part for name in names if name not in _PASSED_OVER for part in _PART.findall(name)]


def _plain(run: str) -> str:
    if run.isascii():
        return run.lower()
    letters = unicodedata.normalize("NFKD", fold(run).casefold())
    return _UNSEEN.sub("", letters.translate(_LETTERS))


def stem(word: str) -> str:
    """Without the ending of a regular English plural (the S-stemmer): injuries, taxes, losses,
    drugs; not gas, virus, diagnosis, rights."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word in _NO_PLURALS:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "shes")):
        return word[:-2]
    return word[:-1]


class Vocabulary:
    """The words of a lexicon."""

    def __init__(self, words: Set[str]) -> None:
        self._words = words
        # The longest beginning first: the more exact reading of a word wins.
        self._beginnings = sorted(
            {len(word) - 1 for word in words if word.endswith(WILDCARD)}, reverse=True
        )

    def readings(self, word: str) -> Readings:
        """The ways in which the lexicon writes the word."""
        ways = [stem(word)]
        ways += [word[:length] + WILDCARD for length in self._beginnings if length <= len(word)]
        if word.isdigit():
            ways.append(ANY_NUMBER)
        return tuple(way for way in ways if way in self._words)


class Reader:
    """Reads the texts of one prompt."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, tuple[Readings, ...]] = {}

    def pieces(self, text: str, piece_characters: int) -> Iterator[list[Readings]]:
        """The words of the text, each as the tuple of its readings."""
        # A run that the end of a piece cuts is read again in the next one, so it has to fit.
        piece_characters = max(piece_characters, 2 * MAX_RUN_CHARACTERS)
        start = 0
        while start < len(text):
            end = min(start + piece_characters, len(text))
            runs = _RUN.findall(text, start, end)
            if end < len(text) and runs and text.endswith(runs[-1], start, end):
                end -= len(runs.pop())
            start = end
            yield self._words(runs)

    def _words(self, runs: list[str]) -> list[Readings]:
        known = self._known
        words: list[Readings] = []
        for run in runs:
            found = known.get(run)
            if found is None:
                found = tuple(map(self._vocabulary.readings, words_of(run)))
                if len(known) >= MAX_KNOWN_RUNS:
                    known.clear()
                known[run] = found
            words += found
        return words
