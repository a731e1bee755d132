"""Loops: found soon after they have gone on for long enough, and nothing else is taken for one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.repetition import (
    CHECK_CHARACTERS,
    MAX_PERIOD_CHARACTERS,
    MIN_REPEATS,
    LoopDetector,
)
from tests.properties.cutting import cut

MAX_TEXT = 12_000  # characters: the oracle tries every period
REPEATS = st.integers(MIN_REPEATS, 6)
CHARACTERS = st.sampled_from([1, 7, 60, 200, 333, 1_000, 2_000])


def repeated(text: str, times: int) -> str:
    return (text * times)[:MAX_TEXT]


def spoilt(text: str, at: int) -> str:
    at %= len(text) + 1
    return text[:at] + "c" + text[at + 1 :]


def stretched(text: str, characters: int) -> str:
    return (text * (characters // len(text) + 1))[:characters]


# Repetitions of repetitions, joined and spoilt: full of passages that nearly loop.
passages = st.recursive(
    st.text(alphabet="ab", min_size=1, max_size=6)
    | st.builds(stretched, st.sampled_from("ab"), st.integers(1, 400)),
    lambda inner: (
        st.builds(repeated, inner, st.integers(1, 9))
        | st.builds(lambda a, b: (a + b)[:MAX_TEXT], inner, inner)
        | st.builds(spoilt, inner, st.integers(0, MAX_TEXT))
    ),
    max_leaves=8,
)
long_passages = st.builds(stretched, passages, st.integers(1, 3_000))
texts = st.lists(long_passages, min_size=1, max_size=6).map("".join)
cuts = st.lists(st.integers(0, MAX_TEXT), max_size=40)


def loops(text: str, repeats: int, characters: int) -> bool:
    """Whether the text ends in a loop, asked of every period."""
    for period in range(1, MAX_PERIOD_CHARACTERS + 1):
        tail = text[-max(repeats * period, characters) :]
        if len(tail) < repeats * period:
            return False
        if len(tail) >= characters and tail[:-period] == tail[period:]:
            return True
    return False


def found_at(pieces: list[str], repeats: int, characters: int) -> int | None:
    """After how many characters the detector first says that the text loops."""
    detector, fed = LoopDetector(repeats=repeats, characters=characters), 0
    for piece in pieces:
        fed += len(piece)
        if detector.feed(piece):
            return fed
    return None


def by_looks(text: str) -> list[str]:
    return [text[at : at + CHECK_CHARACTERS] for at in range(0, len(text), CHECK_CHARACTERS)]


@settings(deadline=None)
@given(texts, REPEATS, CHARACTERS)
def test_each_look_says_what_trying_every_period_says(
    text: str, repeats: int, characters: int
) -> None:
    looks = range(CHECK_CHARACTERS, len(text) + 1, CHECK_CHARACTERS)
    expected = next((at for at in looks if loops(text[:at], repeats, characters)), None)
    assert found_at(by_looks(text), repeats, characters) == expected


@settings(deadline=None)
@given(texts, passages | texts, cuts, REPEATS, CHARACTERS)
def test_a_loop_is_found_however_it_came_and_whatever_came_before(
    before: str, passage: str, at: list[int], repeats: int, characters: int
) -> None:
    passage = passage[-MAX_PERIOD_CHARACTERS:]
    threshold = max(repeats * len(passage), characters)
    loop = passage * ((threshold + CHECK_CHARACTERS) // len(passage) + 1)
    text = before + loop[: threshold + CHECK_CHARACTERS]
    assert found_at([*cut(before, at), *cut(text[len(before) :], at)], repeats, characters)
    at_most = len(before) + threshold + CHECK_CHARACTERS
    assert (found_at(list(text), repeats, characters) or at_most) < at_most


@settings(deadline=None)
@given(texts, cuts, REPEATS, CHARACTERS)
def test_what_is_found_does_not_depend_on_how_the_text_came(
    text: str, at: list[int], repeats: int, characters: int
) -> None:
    whole = LoopDetector(repeats=repeats, characters=characters).feed(text)
    assert (found_at(cut(text, at), repeats, characters) is not None) == whole
    assert (found_at(list(text), repeats, characters) is not None) == whole


@settings(deadline=None)
@given(st.lists(texts, max_size=12), REPEATS, CHARACTERS)
def test_once_found_it_stays_found(pieces: list[str], repeats: int, characters: int) -> None:
    detector = LoopDetector(repeats=repeats, characters=characters)
    answers = [detector.feed(piece) for piece in pieces]
    assert answers == sorted(answers)


@settings(deadline=None)
@given(st.lists(texts, max_size=30), REPEATS, CHARACTERS)
def test_what_it_keeps_is_bounded(pieces: list[str], repeats: int, characters: int) -> None:
    detector = LoopDetector(repeats=repeats, characters=characters)
    bound = max(characters, repeats * MAX_PERIOD_CHARACTERS) + CHECK_CHARACTERS
    for piece in pieces:
        detector.feed(piece)
        kept = (getattr(detector, slot) for slot in LoopDetector.__slots__)
        assert sum(len(text) for text in kept if isinstance(text, str)) <= bound
