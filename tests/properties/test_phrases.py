from unicodedata import normalize

import regex
from hypothesis import example, given
from hypothesis import strategies as st

from app.protocol.filters.pattern import inspect
from app.rules.phrases import EDGE, GAP, phrase_patterns

WORDS = st.text("abé+", min_size=1, max_size=4)
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
TEXTS = st.text("abéA+_ \n-", max_size=30)


def one_by_one(phrases: list[str], text: str) -> list[tuple[int, int]]:
    """Leftmost, of these the longest, not overlapping: each phrase searched for by itself."""
    spans: list[tuple[int, int]] = []
    for phrase in phrases:
        words = GAP.join(map(regex.escape, phrase.split()))
        before = f"(?<!{EDGE})" if regex.match(EDGE, phrase) else ""
        after = f"(?!{EDGE})" if regex.match(EDGE, phrase[-1]) else ""
        found = regex.finditer(f"(?i:{before}{words}{after})", text, overlapped=True)
        spans += [match.span() for match in found]
    chosen: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not chosen or start >= chosen[-1][1]:
            chosen.append((start, end))
    return chosen


@given(st.lists(PHRASES, min_size=1, max_size=8), TEXTS)
@example(["a", "a+"], "A+")
def test_a_list_finds_what_its_phrases_find(phrases: list[str], text: str) -> None:
    (pattern,) = phrase_patterns(phrases)
    found = [match.span() for match in regex.finditer(f"(?i:{pattern})", text)]
    assert found == one_by_one(phrases, text)


@given(st.lists(PHRASES, min_size=1, max_size=200))
def test_a_list_of_any_length_makes_patterns_that_are_accepted(phrases: list[str]) -> None:
    longest = max(len(normalize("NFD", phrase)) + 2 * phrase.count(" ") for phrase in phrases)
    for pattern in phrase_patterns(phrases):
        assert inspect(pattern, ignore_case=True).bound <= longest + 1
