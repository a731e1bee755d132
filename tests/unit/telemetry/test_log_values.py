from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.telemetry.log_values import (
    MAX_EXCEPTIONS,
    MAX_TEXT_CHARACTERS,
    closed_types,
    place_of,
    told_by_place,
)


class Colour(StrEnum):
    RED = "red"


def written(value: object) -> Any:
    return closed_types(None, "", {"value": value})["value"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SecretStr("a"), "<SecretStr>"),
        (b"pepper", "<bytes>"),
        (bytearray(b"x"), "<bytearray>"),
        (ValueError("the prompt"), "<ValueError>"),
        (object(), "<object>"),
        ({"a", "b"}, "<set>"),
        ([SecretStr("a"), {"k": SecretStr("b")}], ["<SecretStr>", {"k": "<SecretStr>"}]),
        ({SecretStr("a"): 1}, {"<SecretStr>": 1}),
    ],
)
def test_a_value_of_any_other_type_is_written_as_the_types_name(
    value: object, expected: object
) -> None:
    assert written(value) == expected


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", ["a", 1], {"a": {"b": None}}])
def test_plain_values_stay_as_they_are(value: object) -> None:
    assert written(value) == value


def test_words_of_an_enumeration_and_paths_are_texts() -> None:
    assert written(Colour.RED) == "red"
    assert written(Path("/spool/a")) == "/spool/a"
    assert written((1, 2)) == [1, 2]


def test_what_goes_too_deep_ends_in_a_types_name() -> None:
    value: object = "deep"
    for _ in range(50):
        value = [value]
    assert "<list>" in str(written(value))
    assert "deep" not in str(written(value))


def test_a_long_text_is_cut_and_a_secret_at_the_cut_leaves_no_part_of_itself() -> None:
    text = "x" * (MAX_TEXT_CHARACTERS - 10) + " Bearer 0123456789abcdef" + "y" * 100
    cut = written(text)
    assert cut.startswith("x" * 100)
    assert len(cut) < MAX_TEXT_CHARACTERS + 50
    assert "0123" not in cut
    assert cut.endswith(f"({len(text)} characters)")


def raised(error: Exception, cause: BaseException | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001 - any, to be looked at
        return caught


def test_an_exception_and_those_that_led_to_it_are_told_by_type_and_place() -> None:
    first = raised(ConnectionRefusedError(111, "the password is x"))
    text = place_of(raised(KeyError("the prompt"), first))
    before, _, after = text.partition("\n\n")
    assert before.endswith("ConnectionRefusedError (errno 111)")
    assert after.endswith("KeyError")
    assert before.count("test_log_values.py") == 1
    assert "the p" not in text


def test_those_that_a_group_holds_are_told_too() -> None:
    group = ExceptionGroup("of the prompt", [raised(ValueError("a")), raised(TypeError("b"))])
    text = place_of(raised(group))
    assert [line for line in text.splitlines() if not line.startswith((" ", "Traceback"))] == [
        "TypeError",
        "",
        "ValueError",
        "",
        "ExceptionGroup",
    ]


def test_a_chain_without_an_end_has_one_in_the_log() -> None:
    error = raised(ValueError("0"))
    for number in range(100):
        error = raised(ValueError(str(number)), error)
    assert place_of(error).count("ValueError") == 2 * MAX_EXCEPTIONS or (
        place_of(error).count("\nValueError") == MAX_EXCEPTIONS
    )


def test_exc_info_without_an_exception_is_left_out() -> None:
    assert told_by_place(None, "", {"event": "x", "exc_info": True}) == {"event": "x"}
    assert told_by_place(None, "", {"event": "x", "exc_info": None}) == {"event": "x"}
