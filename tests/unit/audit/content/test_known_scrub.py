from hypothesis import given
from hypothesis import strategies as st

from app.audit.content.known_scrub import START_CHARACTERS, KnownScrub
from app.known_secrets import KnownSecrets

SECRET = "an-admin-token-of-33-characters-!"
OTHER = "admin-token-and-more"
texts = st.lists(
    st.sampled_from([SECRET, OTHER, SECRET[:9], SECRET[:20], "an-", "a", " ", "yes", "\u00e9"])
).map("".join)


def known() -> KnownSecrets:
    secrets = KnownSecrets()
    secrets.add(SECRET)
    secrets.add(OTHER)
    return secrets


@st.composite
def cut(draw: st.DrawFn) -> list[str]:
    text = draw(texts)
    places = sorted(draw(st.sets(st.integers(0, len(text)))))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(cut())
def test_whatever_the_cuts_no_more_than_the_start_of_a_secret_comes_out(pieces: list[str]) -> None:
    scrubbing = KnownScrub(known())
    shown = "".join(scrubbing.feed(piece) for piece in [*pieces, "\n"])
    assert SECRET not in shown
    assert OTHER not in shown
    before = "".join(pieces).count(SECRET[: START_CHARACTERS + 1])
    whole = "".join(pieces).count(SECRET)
    assert shown.count(SECRET[: START_CHARACTERS + 1]) <= before - whole


@given(cut())
def test_a_secret_that_is_a_part_of_another_is_masked_once(pieces: list[str]) -> None:
    """As in a text that is searched whole."""
    secrets = known()
    secrets.add(SECRET.rstrip("!"))
    scrubbing = KnownScrub(secrets)
    shown = "".join(scrubbing.feed(piece) for piece in [*pieces, "\n"])
    assert shown.count("***") <= secrets.masked("".join(pieces)).count("***")


@given(st.lists(st.sampled_from([SECRET[:9], SECRET[:20], "an-", "admin-tok", " ", "yes"])))
def test_a_text_without_a_secret_comes_out_whole(pieces: list[str]) -> None:
    if known().masked("".join(pieces)) == "".join(pieces):
        scrubbing = KnownScrub(known())
        assert "".join(map(scrubbing.feed, [*pieces, "\n"])) == "".join(pieces) + "\n"


def test_what_may_become_a_secret_is_held_and_what_became_none_comes_with_the_next() -> None:
    scrubbing = KnownScrub(known())
    assert scrubbing.feed("it is an-admin-tok") == "it is "
    assert scrubbing.feed("yo. It is an-admin-token-of-33-cha") == "an-admin-tokyo. It is "
    assert scrubbing.feed("racters-! or so") == "*** or so"


def test_without_secrets_nothing_is_held() -> None:
    assert KnownScrub(KnownSecrets()).feed("an-admin-token-of") == "an-admin-token-of"
