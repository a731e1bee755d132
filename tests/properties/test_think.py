"""The redactor's laws: nothing hidden is ever in what was shown, however it was cut."""

from hypothesis import given
from hypothesis import strategies as st

from app.protocol.events import ReasoningDelta, TextDelta
from app.protocol.think import CLOSE_TAG, MAX_HOLDBACK, OPEN_TAG, ThinkRedactor
from tests.properties.cutting import cut, cuts

noise = st.text(alphabet="<>/think abc\u2028é\n", max_size=30)
clean = st.text(alphabet="abc \u2028é\n", max_size=20)
NONCE = "N0NCE"


def run(pieces: list[str], *, inside: bool) -> tuple[str, str]:
    """All that was shown, and all that was hidden."""
    redactor = ThinkRedactor(0, inside=inside)
    events = [event for piece in pieces for event in redactor.feed(TextDelta(0, piece))]
    events += redactor.close()
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    hidden = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    return shown, hidden


@given(noise, cuts, st.booleans())
def test_the_split_does_not_depend_on_how_the_text_was_cut(
    text: str, at: list[int], inside: bool
) -> None:
    assert run(cut(text, at), inside=inside) == run([text], inside=inside)


@given(noise, noise, cuts)
def test_a_thought_that_the_template_opened_is_never_shown(
    before: str, after: str, at: list[int]
) -> None:
    text = before.replace(">", "") + NONCE + CLOSE_TAG + after
    shown, hidden = run(cut(text, at), inside=True)
    assert NONCE not in shown
    assert NONCE in hidden


@given(clean, noise, cuts)
def test_a_thought_without_an_end_is_hidden_to_the_end(
    before: str, inner: str, at: list[int]
) -> None:
    text = before + OPEN_TAG + inner.replace("/", "") + NONCE
    shown, _ = run(cut(text, at), inside=False)
    assert NONCE not in shown
    assert shown == before


@given(clean, clean, clean, cuts)
def test_the_answer_around_a_thought_is_complete(
    before: str, thought: str, after: str, at: list[int]
) -> None:
    text = f"{before}{OPEN_TAG}{thought}{CLOSE_TAG}{after}"
    assert run(cut(text, at), inside=False) == (before + after.lstrip(), thought)


@given(clean, cuts)
def test_a_text_without_tags_passes_unchanged(text: str, at: list[int]) -> None:
    assert run(cut(text, at), inside=False) == (text, "")


@given(noise, cuts, st.booleans())
def test_what_is_held_back_is_bounded(text: str, at: list[int], inside: bool) -> None:
    redactor = ThinkRedactor(0, inside=inside)
    for piece in cut(text, at):
        list(redactor.feed(TextDelta(0, piece)))
        assert len(redactor._held) <= MAX_HOLDBACK


def test_blank_space_between_thought_and_answer_is_dropped_across_chunks() -> None:
    assert (
        run(["plan", "</thi", "nk>", "\n", "\n", " Hello", " you"], inside=True)[0] == "Hello you"
    )


def test_a_stray_closing_tag_in_the_answer_is_dropped() -> None:
    assert run(["Hello </think>world"], inside=False)[0] == "Hello world"
