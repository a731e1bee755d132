from hypothesis import given
from hypothesis import strategies as st

from app.audit.content.stream_scrub import StreamScrub
from app.store.secrets import scrub

SECRET = "sk-qw-" + "aB3dEfGh1jKlMn0pQrStUvWxYz" * 2
texts = st.lists(
    st.sampled_from([SECRET, SECRET[:9], "sk-qw-", "sk-", "s", " ", "yes", "\u00e9", "q"])
).map("".join)


@st.composite
def cut(draw: st.DrawFn) -> list[str]:
    text = draw(texts)
    places = sorted(draw(st.sets(st.integers(0, len(text)))))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(cut())
def test_whatever_the_cuts_no_more_than_the_start_of_a_secret_comes_out(pieces: list[str]) -> None:
    scrubbing = StreamScrub()
    shown = "".join(scrubbing.feed(piece) for piece in pieces)
    assert SECRET[:14] not in shown
    assert scrub(shown) == shown


@given(texts)
def test_of_a_text_in_one_piece_it_is_what_scrub_says(text: str) -> None:
    assert StreamScrub().feed(text) == scrub(text)


@given(st.lists(st.sampled_from(["s", "sk", "-", "sk-qw-", "abc", " ", "\n"])))
def test_a_text_without_a_secret_is_left_as_it_is(pieces: list[str]) -> None:
    text = "".join(pieces)
    if scrub(text) == text:
        scrubbing = StreamScrub()
        assert "".join(scrubbing.feed(piece) for piece in pieces) == text
