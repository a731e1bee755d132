import pytest

from app.cli.marked_text import escaped, marked
from app.protocol.filters.rule import Action, Hit

FLAG, MASK, BLOCK = Action.FLAG, Action.MASK, Action.BLOCK
TEXT = "0123456789"


def plain(*hits: tuple[str, Action, int, int]) -> str:
    return marked(TEXT, [Hit(*hit) for hit in hits], coloured=False)


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ([], "0123456789"),
        ([("a", MASK, 2, 4)], "01[-23-]{a}456789"),
        ([("a", MASK, 0, 10)], "[-0123456789-]{a}"),
        ([("a", MASK, 2, 4), ("b", MASK, 3, 6)], "01[-2345-]{a}6789"),  # one cut, by the first
        ([("b", MASK, 2, 4), ("a", MASK, 2, 6)], "01[-2345-]{a}6789"),  # the longer of two
        ([("b", MASK, 2, 4), ("a", MASK, 2, 4)], "01[-23-]{b}456789"),  # the first of two
        ([("a", MASK, 1, 8), ("b", MASK, 2, 3)], "0[-1234567-]{a}89"),
        ([("a", MASK, 2, 4), ("b", MASK, 4, 6)], "01[-23-]{a}[-45-]{b}6789"),
        ([("a", FLAG, 2, 4)], "01[=23=]{a}456789"),
        ([("a", FLAG, 1, 6), ("b", MASK, 3, 4)], "0[=12=]{a}[-3-]{b}[=45=]{a}6789"),
        ([("a", BLOCK, 6, 7)], "012345[-6789-]{a}"),
        ([("b", MASK, 2, 8), ("a", BLOCK, 6, 7)], "01[-2345-]{b}[-6789-]{a}"),
    ],
)
def test_marks_show_what_is_cut_and_by_which_rule(
    hits: list[tuple[str, Action, int, int]], expected: str
) -> None:
    assert plain(*hits) == expected


def test_a_background_ends_with_its_line() -> None:
    shown = marked("a\n\nb", [Hit("a", BLOCK, 0, 4)], coloured=True)
    assert [line.endswith("\x1b[0m") for line in shown.split("\n")] == [True, False, True]


def test_what_would_steer_a_terminal_is_escaped() -> None:
    assert escaped("a\x1b[0m\u202e\x9b\udcff\x85\u2028\tb\n") == (
        "a\\x1b[0m\\u202e\\x9b\\udcff\\x85\\u2028\tb\n"
    )
