"""Which high-risk domains a prompt asks about, by weighted terms.

A term is one to four words with a weight. A domain's score is that of its best window: the sum of
the weights of the distinct terms among WINDOW_WORDS words that end with one. So a long text does
not add up to a verdict, a word that is said ten times counts once, and a risky question within a
long harmless text is still seen. What decided is named; nothing else is kept of the text.

Words are folded to the letters a-z and the digits (case, width, accents, look-alike letters), and a
regular plural is read as its singular. A word of a term is `dose`, that word; `diagnos*`, any word
that begins so; or `#`, any number. Articles and possessives are passed over, in texts and in terms:
"kill my process" holds the term "kill process". Where terms of one domain overlap, the one that
begins first wins, of these the longest. So a term that weighs nothing takes its words out of the
domain: "stock photo" hides "stock".

Words that are said everywhere count for MAX_WEAK together at most, and those that speak against a
domain (a poem, a function) take MAX_AGAINST away at most: neither outweighs a plain question.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.protocol.words import ANY_NUMBER, WILDCARD, Reader, Readings, Vocabulary, stem, words_of

WINDOW_WORDS = 100  # a long paragraph: what one question and its circumstances take
MAX_TERM_WORDS = 4  # "wpa2 handshake" has three
# What weighs less than this is said everywhere; together it counts for so much at most.
WEAK_WEIGHT = 1.0
MAX_WEAK = 1.2
# Words that speak against a domain take so much away at most: none outweighs a plain question.
MAX_AGAINST = 1.0
MAX_VERDICT_TERMS = 8  # enough to see why
# Matching so many characters in one call holds the interpreter for 2 ms at most.
PIECE_CHARACTERS = 64 * 1024


class Domain(StrEnum):
    CYBERSECURITY = "cybersecurity"
    MEDICAL = "medical"
    PHARMACOLOGY = "pharmacology"
    FINANCE = "finance"
    LAW = "law"


@dataclass(frozen=True, slots=True)
class Term:
    """One to four words as a lexicon writes them, and what they weigh in their domain.

    Below 0 they speak against it; at 0 they only hide shorter terms.
    """

    words: tuple[str, ...]
    weight: float

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The score of the best window, and the terms that made it, the weightiest first."""

    score: float
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)  # one is only the same as itself: quick to count
class _Entry:
    term: Term
    length: int  # words
    weight: int  # hundredths: sums that come and go leave no remainder


@dataclass(slots=True)
class _Node:
    """Words that terms begin with."""

    then: dict[str, "_Node"] = field(default_factory=dict)
    ends: dict[Domain, _Entry] = field(default_factory=dict)


class Lexicon:
    """The terms of some domains. Immutable once made, and shared by threads.

    Raises ValueError where a term has no words or too many, or two weights in one domain.
    """

    def __init__(
        self, terms: Mapping[Domain, Sequence[Term]], thresholds: Mapping[Domain, float]
    ) -> None:
        self._thresholds = {domain: _hundredths(thresholds[domain]) for domain in terms}
        self._root = _Node()
        vocabulary: set[str] = set()
        for domain, domain_terms in terms.items():
            for term in domain_terms:
                words = term_words(term)
                self._add(domain, term, words)
                vocabulary.update(words)
        self._vocabulary = Vocabulary(frozenset(vocabulary))

    def _add(self, domain: Domain, term: Term, words: Sequence[str]) -> None:
        node = self._root
        for word in words:
            node = node.then.setdefault(word, _Node())
        entry = _Entry(term, len(words), _hundredths(term.weight))
        same = node.ends.setdefault(domain, entry).term
        if same.weight != term.weight:
            raise ValueError(f'{domain}: "{term}" weighs {term.weight}, "{same}" {same.weight}')

    def classify(
        self, texts: Iterable[str], *, piece_characters: int = PIECE_CHARACTERS
    ) -> dict[Domain, Verdict]:
        """The domains that reach their threshold. A term ends with its text, a window does not.

        Linear, some 150 us for 1,000 characters of prose: long texts belong in a thread. Of
        `piece_characters` depends how long a step takes, and never the verdict.
        """
        windows = {domain: _Window() for domain in self._thresholds}
        free = dict.fromkeys(windows, 0)  # where the next term of the domain may begin
        for place, found in self._found(texts, piece_characters):
            for domain, entry in found.items():
                if place >= free[domain]:
                    free[domain] = place + entry.length
                    if entry.weight:
                        windows[domain].add(place, entry)
        return {
            domain: window.verdict()
            for domain, window in windows.items()
            if window.best >= self._thresholds[domain]
        }

    def _found(
        self, texts: Iterable[str], piece_characters: int
    ) -> Iterator[tuple[int, dict[Domain, _Entry]]]:
        """Each word that terms begin with: its place among all words, and these terms."""
        reader = Reader(self._vocabulary)
        place = 0
        for text in texts:
            words: list[Readings] = []
            for piece in reader.pieces(text, piece_characters):
                words += piece
                # Behind the last words of a piece, a term may go on in the next one.
                whole = max(0, len(words) - MAX_TERM_WORDS + 1)
                yield from self._beginning(words, whole, place)
                place += whole
                words = words[whole:]
            yield from self._beginning(words, len(words), place)
            place += len(words)

    def _beginning(
        self, words: Sequence[Readings], before: int, place: int
    ) -> Iterator[tuple[int, dict[Domain, _Entry]]]:
        firsts = self._root.then
        for at in range(before):
            for reading in words[at]:
                if reading in firsts:
                    found = self._longest(words, at)
                    if found:
                        yield place + at, found
                    break

    def _longest(self, words: Sequence[Readings], at: int) -> dict[Domain, _Entry]:
        """The longest term of each domain that begins here."""
        found: dict[Domain, _Entry] = {}
        nodes = [self._root]
        for readings in words[at : at + MAX_TERM_WORDS]:
            nodes = [
                node.then[reading] for node in nodes for reading in readings if reading in node.then
            ]
            if not nodes:
                break
            for node in reversed(nodes):  # the first one is the most exact
                found.update(node.ends)
        return found


class _Window:
    """The terms of one domain among the last WINDOW_WORDS words, and the best there were."""

    __slots__ = ("_against", "_decided", "_distinct", "_places", "_strong", "_weak", "best")

    def __init__(self) -> None:
        self.best = 0  # hundredths
        self._decided: tuple[_Entry, ...] = ()  # of the best
        self._places: deque[tuple[int, _Entry]] = deque()
        self._distinct: Counter[_Entry] = Counter()
        self._strong = self._weak = self._against = 0

    def add(self, place: int, entry: _Entry) -> None:
        while self._places and self._places[0][0] <= place - WINDOW_WORDS:
            self._drop(self._places.popleft()[1])
        self._places.append((place, entry))
        self._distinct[entry] += 1
        if self._distinct[entry] == 1:
            self._count(entry.weight)
        score = self._strong + min(self._weak, _WEAK_LIMIT) - min(self._against, _AGAINST_LIMIT)
        if score > self.best:
            self.best = score
            self._decided = tuple(self._distinct)

    def _drop(self, entry: _Entry) -> None:
        self._distinct[entry] -= 1
        if not self._distinct[entry]:
            del self._distinct[entry]
            self._count(entry.weight, -1)

    def _count(self, weight: int, sign: int = 1) -> None:
        if weight < 0:
            self._against -= sign * weight
        elif weight < _WEAK:
            self._weak += sign * weight
        else:
            self._strong += sign * weight

    def verdict(self) -> Verdict:
        decided = [entry.term for entry in self._decided if entry.weight > 0]
        decided.sort(key=lambda term: (-term.weight, str(term)))
        return Verdict(self.best / 100, tuple(map(str, decided[:MAX_VERDICT_TERMS])))


def term_words(term: Term) -> tuple[str, ...]:
    """A term as it is looked for: two that say the same are equal. Raises ValueError."""
    words: list[str] = []
    for written in term.words:
        if written == ANY_NUMBER:
            words.append(written)
            continue
        parts = words_of(written.removesuffix(WILDCARD))
        if not parts or "" in parts or WILDCARD in written[:-1]:
            raise ValueError(f'"{term}": "{written}" is an article, a possessive or no word')
        if written.endswith(WILDCARD):
            words += [*parts[:-1], parts[-1] + WILDCARD]
        else:
            words += map(stem, parts)
    if not 1 <= len(words) <= MAX_TERM_WORDS:
        raise ValueError(f'"{term}" is not one to {MAX_TERM_WORDS} words')
    return tuple(words)


def _hundredths(weight: float) -> int:
    return round(weight * 100)


_WEAK = _hundredths(WEAK_WEIGHT)
_WEAK_LIMIT = _hundredths(MAX_WEAK)
_AGAINST_LIMIT = _hundredths(MAX_AGAINST)
