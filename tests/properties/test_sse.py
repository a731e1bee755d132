"""The decoder's laws: chunk invariance, round trip, bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.sse import SSEDecoder, SSEError
from tests.properties.cutting import cut, cuts

lines = st.sampled_from(
    [
        "data: {}",
        "data:x",
        "data: a\u2028b\u0085c",
        "data:",
        ": keep-alive",
        "event: ping",
        "id: 1",
        "",
    ]
)
endings = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(st.tuples(lines, endings), max_size=12))
    return "".join(line + ending for line, ending in parts).encode()


def decode(pieces: list[bytes]) -> list[bytes]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


@given(streams(), cuts)
def test_events_do_not_depend_on_how_the_bytes_were_cut(data: bytes, at: list[int]) -> None:
    assert decode(cut(data, at)) == decode([data])


@given(streams())
def test_one_byte_at_a_time_is_the_same_as_all_at_once(data: bytes) -> None:
    assert decode([data[i : i + 1] for i in range(len(data))]) == decode([data])


@given(
    st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=6),
    endings,
)
def test_what_was_encoded_comes_back(texts: list[str], ending: str) -> None:
    data = "".join(f"data: {text}{ending}{ending}" for text in texts).encode()
    assert decode([data]) == [text.encode() for text in texts]


def test_line_separators_of_unicode_are_data() -> None:
    payload = '{"t":"a\u2028b\u2029c\u0085d\x0be"}'.encode()
    assert decode([b"data: " + payload + b"\n\n"]) == [payload]


def test_several_data_lines_are_one_event() -> None:
    assert decode([b"data: a\ndata: b\n\n"]) == [b"a\nb"]


def test_comments_and_other_fields_are_no_events() -> None:
    assert decode([b": hi\n\nevent: x\nid: 3\nretry: 1\n\ndata: y\n\n"]) == [b"y"]


def test_a_byte_order_mark_does_not_hide_the_first_event() -> None:
    assert decode([b"\xef\xbb\xbfdata: x\n\n"]) == [b"x"]


def test_an_endless_event_is_refused_at_the_bound() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(SSEError, match="more than 100 bytes"):
        decoder.feed(b"xxxxx")
