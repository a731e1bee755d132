"""Loops as the model makes them, and texts that only look like one."""

import itertools

import pytest

from app.protocol.repetition import CHECK_CHARACTERS, MAX_PERIOD_CHARACTERS, LoopDetector

TOKEN_CHARACTERS = 4
PROSE = "".join(
    f"Step {n}: take {n * n} apples and give {n % 7} of them away.\n" for n in range(999)
)

PASSAGES = [
    "!",
    "Wait. ",
    "Wait, let me check that again: the sum is 42, so the answer is 42.\n",
    PROSE[:500],
    PROSE[:501],
    PROSE[:2_003],
    PROSE[:2_004],
    PROSE[:MAX_PERIOD_CHARACTERS],
    "等一下让我再检查一遍。",
    "🤔" * 3 + "?",
    "a" * 700 + "b",  # repeats within what repeats
    ("ab" * 60 + "c") * 9 + "d",
    "a" * 300 + PROSE[:100] + "a" * 1_503,  # its end alone tells another period
    "\ud800x",  # half of a pair, as a cut escape leaves it
]


def looping_after(text: str, *, repeats: int = 4, characters: int = 2_000) -> int | None:
    detector = LoopDetector(repeats=repeats, characters=characters)
    for at in range(0, len(text), TOKEN_CHARACTERS):
        if detector.feed(text[at : at + TOKEN_CHARACTERS]):
            return min(at + TOKEN_CHARACTERS, len(text))
    return None


@pytest.mark.parametrize("passage", PASSAGES)
def test_a_passage_over_and_over_is_a_loop(passage: str) -> None:
    threshold = len(PROSE) + max(4 * len(passage), 2_000)
    found = looping_after(PROSE + passage * (20_000 // len(passage) + 1))
    assert found is not None
    # What came before may end as the passage does, and the loop begin with that.
    assert threshold - len(passage) < found <= threshold + CHECK_CHARACTERS + TOKEN_CHARACTERS


@pytest.mark.parametrize("passage", PASSAGES)
def test_a_look_where_it_has_just_gone_on_for_long_enough_finds_it(passage: str) -> None:
    threshold = max(4 * len(passage), 2_000)
    loop = (passage * threshold)[:threshold]
    before = "#" * (-threshold % CHECK_CHARACTERS)
    assert LoopDetector(repeats=4, characters=2_000).feed(before + loop)
    assert not LoopDetector(repeats=4, characters=2_000).feed(before + "#" + loop[1:])


@pytest.mark.parametrize(
    "text",
    [
        "",
        PROSE,
        "x" * 1_999,  # too few characters
        PROSE[:1_000] * 3,  # too few repeats
        PROSE[: MAX_PERIOD_CHARACTERS + 1] * 6,  # too long a passage
        "".join("a" * (1_500 + n % 3) + "b" for n in range(30)),  # never quite the same again
        "".join(f"| {n} | 0 | 0 | 0 | 0 |\n" for n in range(2_000)),
        "".join("0110"[n.bit_count() % 2] for n in range(20_000)),  # no block thrice in a row
    ],
)
def test_other_texts_are_none(text: str) -> None:
    assert looping_after(text) is None


def test_a_fibonacci_word_repeats_thrice_at_most() -> None:
    shorter, word = "a", "ab"
    while len(word) < 20_000:
        shorter, word = word, word + shorter
    assert looping_after(word) is None
    assert looping_after(word, repeats=3) is not None


def test_an_answer_may_go_on_for_longer_than_a_thought() -> None:
    list_of_equal_lines = "- [ ] to do\n" * 600
    assert looping_after(list_of_equal_lines, characters=2_000) is not None
    assert looping_after(list_of_equal_lines, characters=8_000) is None


def test_a_whole_text_in_one_piece_is_looked_at_in_its_middle_too() -> None:
    detector = LoopDetector(repeats=4, characters=2_000)
    assert detector.feed(PROSE[:3_000] + "Wait. " * 1_000 + PROSE)
    assert detector.feed("and on")


def test_a_loop_that_ended_between_two_looks_is_none() -> None:
    detector = LoopDetector(repeats=4, characters=200)
    looped = "x" * 210
    assert not detector.feed(looped + PROSE[: CHECK_CHARACTERS - len(looped)])


@pytest.mark.parametrize(("repeats", "characters"), [(2, 2_000), (0, 2_000), (4, 0)])
def test_what_is_no_loop_cannot_be_asked_for(repeats: int, characters: int) -> None:
    with pytest.raises(ValueError, match="a loop has"):
        LoopDetector(repeats=repeats, characters=characters)


def test_empty_pieces_change_nothing() -> None:
    pieces = itertools.chain.from_iterable(("", "ha ", "") for _ in range(2_000))
    detector = LoopDetector(repeats=4, characters=2_000)
    assert [detector.feed(piece) for piece in pieces][-1]
