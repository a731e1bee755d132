"""What an inspection promises about a pattern, held against the engine, on patterns and texts that
nobody thought up."""

import re
from collections.abc import Iterator, Mapping

import regex
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from app.protocol.filters.ambiguity import (
    Atom,
    Atomic,
    Backtracking,
    Choice,
    Look,
    Node,
    Repeat,
    Series,
    extent,
)
from app.protocol.filters.pattern import PatternRefused, inspect, letters, parse
from app.protocol.filters.rule import BEYOND_ASCII

MOST_STEPS = 20_000  # that we count after it, one by one

atoms = st.sampled_from(
    ("a", "b", "A", "1", "-", "[ab]", "[a-z]", "[^a]", r"\d", r"\w", r"\S", "[b-]", "."
     , r"\-", r"\x61", "ab", "ba", "aab", "é")
)  # fmt: skip
counts = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
    lambda pair: f"{{{pair[0]},{pair[0] + pair[1]}}}"
)
repeats = st.tuples(
    st.one_of(counts, st.sampled_from(("?", "{2}", "{,2}"))),
    st.sampled_from(("", "", "", "?", "+")),
).map("".join)
looks = st.sampled_from(
    ("(?!a)", "(?=[a1])", "(?<![ab])", r"(?<!\w)", r"(?!\w)", "(?<=a-)", "(?!ab|b)", "(?=a{1,3}b)")
)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.sampled_from(("(?:{})", "(?:{})", "({})", "(?>{})", "(?i:{})"))
    grouped = st.builds(lambda form, text: form.format(text), group, inner)
    options = st.lists(inner, min_size=2, max_size=3).map("|".join)
    return st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.builds(lambda text, repeat: f"(?:{text}){repeat}", inner, repeats),
        st.builds(
            lambda text, repeat: text + repeat, st.sampled_from(("a", r"\w", "[ab]")), repeats
        ),
        grouped,
        st.builds(lambda form, text: form.format(text), group, options),
    )


nothing = st.just("")
patterns = st.builds(
    "{}{}{}".format,
    st.one_of(nothing, nothing, looks),
    st.recursive(st.one_of(*[atoms] * 9, looks), larger, max_leaves=6),
    st.one_of(nothing, nothing, looks, st.sampled_from(("[%]", "%", r"-\d"))),
)
texts = st.lists(
    st.sampled_from(
        ("a", "b", "aaa", "ab", "aab", "ba", "bb", "1", "-", "%", "A", "B", "é", "a-", "-1", "\n")
    ),
    min_size=5,
    max_size=12,
).map("".join)


@settings(max_examples=400)
@given(patterns, st.booleans(), texts)
def test_what_a_match_is_shows_within_its_bound(pattern: str, ignore_case: bool, text: str) -> None:
    try:
        shape = inspect(pattern, ignore_case=ignore_case)
    except PatternRefused:
        assume(False)
    engine = regex.compile(pattern, regex.VERSION0 | (regex.IGNORECASE if ignore_case else 0))
    for start in range(len(text)):
        whole = engine.match(text, start)
        from_ = max(start - shape.behind, 0)
        part = engine.match(text[from_ : start + shape.bound], start - from_)
        assert (whole is None) == (part is None)
        if whole is not None and part is not None:
            event("matched")
            assert whole[0] == part[0]
            assert 0 < len(whole[0]) <= shape.bound
            assert shape.firsts is not None
            first = whole[0][0]
            assert (first if first.isascii() else BEYOND_ASCII) in shape.firsts


@settings(max_examples=400)
@given(patterns, st.booleans(), texts)
def test_both_engines_read_what_passes_the_same_way(
    pattern: str, ignore_case: bool, text: str
) -> None:
    try:
        inspect(pattern, ignore_case=ignore_case)
    except PatternRefused:
        assume(False)
    one = regex.compile(pattern, regex.VERSION0 | (regex.IGNORECASE if ignore_case else 0))
    other = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    for start in range(len(text)):
        left, right = one.match(text, start), other.match(text, start)
        assert (left and left.span()) == (right and right.span())


class Tried:
    """Backtracking as a textbook has it: every way, in order, up to the first that matches. What is
    looked at holds where `holds` says so: the cost has to be right either way."""

    def __init__(self, text: str, of: Mapping[Atom, int], holds: list[bool], most: int) -> None:
        self._text, self._holds, self._most = text, holds, most
        self._reads = {atom: regex.compile(atom.text, atom.flags) for atom in of}
        self.steps = 0

    def ends(self, node: Node, at: int) -> Iterator[int]:
        if self.steps > self._most:
            return
        if isinstance(node, Atom):
            self.steps += 1
            if self._reads[node].match(self._text, at):
                yield at + 1
        elif isinstance(node, Choice):
            for option in node.options:
                yield from self.ends(option, at)
        elif isinstance(node, Repeat):
            yield from self._turns(node, at, 0)
        elif isinstance(node, Series):
            yield from self._series(node.parts, at)
        else:
            yield from self._first(node, at)

    def _first(self, node: Atomic | Look, at: int) -> Iterator[int]:
        start = at
        if isinstance(node, Look) and not node.ahead:
            start = max(at - extent(node).behind, 0)
        end = next(self.ends(node.body, start), None)
        if isinstance(node, Look):
            if self._holds[at % len(self._holds)]:
                yield at
        elif end is not None:
            yield end

    def _turns(self, node: Repeat, at: int, turn: int) -> Iterator[int]:
        if turn < node.most:
            for end in self.ends(node.body, at):
                yield from self._turns(node, end, turn + 1)
        if turn >= node.least:
            yield at

    def _series(self, parts: tuple[Node, ...], at: int) -> Iterator[int]:
        if not parts:
            yield at
            return
        for end in self.ends(parts[0], at):
            yield from self._series(parts[1:], end)


@settings(max_examples=600)
@given(patterns, texts, st.lists(st.booleans(), min_size=1, max_size=5))
def test_no_text_takes_more_steps_than_the_cost(pattern: str, text: str, holds: list[bool]) -> None:
    try:
        node = parse(pattern)
    except PatternRefused:
        assume(False)
    of = letters(node)
    cost = Backtracking(of).cost(node)
    assume(cost.steps <= MOST_STEPS)
    for start in range(len(text)):
        tried = Tried(text, of, holds, cost.steps)
        next(tried.ends(node, start), None)
        assert tried.steps <= cost.steps


pieces = st.builds(
    "{}{}".format,
    st.sampled_from(("a", "a", "b", "[ab]", "(?:a|b)", "(?:a|ab)", "(?:ab|ba)", "(?:aa|a[ab]b)")),
    st.sampled_from(("", "", "?", "{1,2}", "{1,3}", "{2,4}", "{0,3}", "{1,4}?")),
)
costly_looks = st.sampled_from(("", "(?![ab]{1,6}[%-])", "(?=a{1,4}a{1,4}-)"))
turns = st.builds(
    "(?:{}){{1,{}}}".format,
    st.lists(st.lists(pieces, min_size=1, max_size=2).map("".join), min_size=1, max_size=3)
    .map("|".join),
    st.integers(1, 4),
)  # fmt: skip
dear = st.builds(
    "{}{}{}{}".format, pieces | turns, costly_looks, st.just("") | pieces | turns, costly_looks
)
# The same again and again, ending as no pattern does: all that may be tried is tried.
endless = st.builds(
    lambda period, times: period * times + "%",
    st.sampled_from(("a", "a", "b", "ab", "aab", "abb")),
    st.integers(1, 12),
)


@settings(max_examples=1000)
@given(dear, st.sampled_from(("", "[#-]")), endless)
def test_a_text_that_is_made_to_be_dear_takes_no_more_steps_than_the_cost(
    pattern: str, tail: str, text: str
) -> None:
    try:
        node = parse(pattern + tail)
    except PatternRefused:
        assume(False)
    of = letters(node)
    cost = Backtracking(of).cost(node)
    assume(cost.steps <= MOST_STEPS)
    tried = Tried(text, of, [False] if tail == "" else [True], cost.steps)
    next(tried.ends(node, 0), None)
    assert tried.steps <= cost.steps


@settings(max_examples=300)
@given(st.text(alphabet="ab()[]{}?*+|\\^$.,-:=!<>&~#1dwPRi ", max_size=16))
def test_whatever_is_written_is_read_or_refused(pattern: str) -> None:
    try:
        shape = inspect(pattern)
    except PatternRefused as refused:
        assert str(refused)
        return
    assert shape.bound > 0
    assert regex.compile(pattern).search("") is None
