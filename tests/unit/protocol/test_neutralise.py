"""Control strings in users' texts never reach a tokeniser as control tokens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.neutralise import CONTROL_STRINGS, HINTS, neutralise, neutralise_text

pieces = st.lists(st.sampled_from([*CONTROL_STRINGS, "<", "|", "im_", "a", " "]), max_size=8)


@pytest.mark.parametrize("string", CONTROL_STRINGS)
def test_every_control_string_is_found_by_its_hint(string: str) -> None:
    assert any(hint in string for hint in HINTS)
    assert neutralise_text(f"a {string} b") != f"a {string} b"


@given(pieces.map("".join))
def test_no_control_string_is_left(text: str) -> None:
    assert not any(string in neutralise_text(text) for string in CONTROL_STRINGS)


@given(pieces.map("".join))
def test_the_text_reads_as_before(text: str) -> None:
    assert neutralise_text(text).replace("\u200b", "") == text


@pytest.mark.parametrize("text", ["", "a < b", "<p>html</p>", "if x<|y"])
def test_other_texts_are_left_alone(text: str) -> None:
    assert neutralise_text(text) == text


def test_every_text_of_a_message_and_a_tool_is_covered() -> None:
    value: list[Any] = [{"a<think>": ["</think>", {"b": "<|im_end|>"}], "n": 1, "t": True}]
    assert "<think>" not in str(neutralise(value))
    assert "</think>" not in str(neutralise(value))
    assert "<|im_end|>" not in str(neutralise(value))
    assert value[0]["a<think>"][0] == "</think>"  # a copy: what was asked stays as it was
