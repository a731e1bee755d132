"""Stop sequences: cut at the same place however the text came, and never shown."""

from hypothesis import given
from hypothesis import strategies as st

from app.protocol.stop import StopMatcher
from tests.properties.cutting import cut, cuts

texts = st.text(alphabet="abc", max_size=40)
sequences = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=4)


def run(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces)
    if not matcher.matched:
        shown += matcher.close()
    return shown, matcher.matched


@given(texts, sequences, cuts)
def test_the_cut_does_not_depend_on_how_the_text_came(
    text: str, stops: list[str], at: list[int]
) -> None:
    assert run(cut(text, at), stops) == run([text], stops)


@given(texts, sequences, cuts)
def test_no_stop_sequence_is_ever_shown(text: str, stops: list[str], at: list[int]) -> None:
    matcher, shown = StopMatcher(stops), ""
    for piece in cut(text, at):
        shown += matcher.feed(piece)
        assert not any(stop in shown for stop in stops)


@given(texts, sequences, cuts)
def test_it_stops_exactly_where_a_sequence_is(text: str, stops: list[str], at: list[int]) -> None:
    shown, matched = run(cut(text, at), stops)
    assert matched == any(stop in text for stop in stops)
    assert text.startswith(shown)
    if not matched:
        assert shown == text
