"""An answer in pieces, as it may lie on the disk while it is made."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.audit.content.pieces import MAX_JSON_CHARACTERS, RedactedPieces
from app.audit.content.redaction import Redaction, masking
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule

TICKET = Rule("t.ticket", "ACME-[0-9]{4}", 9, replacement="[ticket]")
WORD = Rule("t.word", "zebra", 5, replacement="[animal]")
MASKING = Redaction(masking(FilterRules([(TICKET, Action.MASK), (WORD, Action.BLOCK)])))
TEXT = "About ACME-4711 and the zebra, no ACME-47 here: that is all there is to say of it."
MASKED = "About [ticket] and the [animal], no ACME-47 here: that is all there is to say of it."


@st.composite
def cut(draw: st.DrawFn) -> list[str]:
    """TEXT in pieces."""
    places = sorted(draw(st.sets(st.integers(1, len(TEXT) - 1))))
    return [TEXT[a:b] for a, b in zip([0, *places], [*places, len(TEXT)], strict=True)]


@given(cut())
def test_whatever_the_cuts_what_comes_out_is_the_beginning_of_the_masked_text(
    pieces: list[str],
) -> None:
    redacted = RedactedPieces(MASKING)
    shown = ""
    for piece in pieces:
        shown += redacted.text("0", "text", piece)
        assert MASKED.startswith(shown)
    assert shown.endswith("there is to say of it.")


def test_what_may_become_a_match_comes_once_it_is_none() -> None:
    redacted = RedactedPieces(MASKING)
    assert redacted.part("0", "See ACME-47") == "See "
    assert redacted.part("0", " or not.") == "ACME-47 or not."


def test_texts_of_choices_thoughts_and_calls_do_not_meet() -> None:
    redacted = RedactedPieces(MASKING)
    assert redacted.part("0", "ACME-") == ""
    assert redacted.part("1", "4711.") == "4711."
    assert redacted.text("0", "thought", "4711.") == "4711."
    assert redacted.part("0", "4711.") == "[ticket]."


def call(*entry: Any) -> list[Any]:
    """One entry of `Transcript.taken`, as it is kept."""
    redacted = RedactedPieces(MASKING).part("0", {"text": "", "calls": [entry], "seals": ["s"]})
    assert isinstance(redacted, dict)
    assert redacted["seals"] == ["s"]
    found: list[Any] = redacted["calls"][0]
    return found


def test_the_arguments_of_a_call_are_read_as_the_json_that_they_are() -> None:
    escaped = r'{"id":"\u0041CME-4711","ACME-4711":["ze\u0062ra",4711]}'
    index, call_id, name, arguments = call(0, "call_1", "find_zebra", escaped)
    assert (index, call_id, name) == (0, "call_1", "find_[animal]")
    assert orjson.loads(arguments) == {"id": "[ticket]", "[ticket]": ["[animal]", 4711]}


def test_long_arguments_are_a_text_whose_escapes_are_known() -> None:
    long = orjson.dumps({"words": ["word"] * MAX_JSON_CHARACTERS}).decode()
    escaped = long[:-1] + r',"id":"\u0041CME-4711","animal":"zebra "}'
    arguments = call(0, "call_1", "find", escaped)[3]
    assert "4711" not in arguments
    assert "zebra" not in arguments
    assert arguments.startswith(long[:-2])


def test_arguments_in_pieces_are_a_text_in_pieces() -> None:
    redacted = RedactedPieces(MASKING)
    first = {"text": "", "calls": [[0, "call_1", "find", '{"id":"AC']], "seals": []}
    rest = {"text": "", "calls": [[0, None, None, 'ME-4711"}']], "seals": []}
    parts = [redacted.part("0", part) for part in (first, rest)]
    calls = [part["calls"][0] for part in parts if isinstance(part, dict)]
    assert [each[:3] for each in calls] == [[0, "call_1", "find"], [0, None, None]]
    assert "".join(each[3] for each in calls) == '{"id":"[ticket]"}'


def test_without_rules_nothing_is_held() -> None:
    redacted = RedactedPieces(Redaction())
    assert redacted.part("0", "ACME-") == "ACME-"
    assert redacted.part("0", "4711") == "4711"
