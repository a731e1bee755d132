"""However a stream is cut: what was taken, told again, is the transcript and the folded body."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.encode import ChatFolder
from app.protocol.events import (
    ReasoningDelta,
    SealedReasoning,
    TextDelta,
    ToolCallDelta,
    Usage,
    Visible,
)
from app.protocol.transcript import Transcript

CHOICES = 3

choice = st.integers(0, CHOICES - 1)
text = st.text(alphabet='ab "\\\u2028\x00\U0001f600é', max_size=6)
events: st.SearchStrategy[list[Visible]] = st.lists(
    st.builds(TextDelta, choice, text)
    | st.builds(ReasoningDelta, choice, text)
    | st.builds(SealedReasoning, choice, text)
    | st.builds(ToolCallDelta, choice, st.integers(0, 2), text, st.none() | text, st.none() | text),
    max_size=30,
)
# After how many events something is fed, and whether something is taken then.
cuts = st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=30)


def batches(said: list[Visible], at: list[tuple[int, bool]]) -> list[tuple[list[Visible], bool]]:
    found, start = [], 0
    for size, taken in at:
        found.append((said[start : start + size], taken))
        start += size
    return [*found, (said[start:], False)]


@given(events, cuts)
def test_pieces_told_again_are_the_transcript(
    said: list[Visible], at: list[tuple[int, bool]]
) -> None:
    transcript, again = Transcript(CHOICES), Transcript(CHOICES)
    for batch, is_taken in batches(said, at):
        transcript.feed(batch)
        if is_taken:
            again.retell(orjson.loads(orjson.dumps(transcript.taken())))
    again.retell(transcript.taken())
    assert again.messages() == transcript.messages()
    assert transcript.taken() == {}


@given(events, cuts)
def test_the_transcript_is_the_folded_body_without_its_thoughts(
    said: list[Visible], at: list[tuple[int, bool]]
) -> None:
    transcript, folder = Transcript(CHOICES), ChatFolder(CHOICES)
    for batch, is_taken in batches(said, at):
        transcript.feed(batch)
        folder.feed(batch)
        if is_taken:
            transcript.taken()
    body = orjson.loads(folder.body("id", 1, "m", Usage(), {}))
    folded: dict[int, Any] = {one["index"]: one["message"] for one in body["choices"]}
    thoughts = {index: message.get("reasoning", "") for index, message in folded.items()}
    assert transcript.messages(thoughts) == {
        # An empty thought is none.
        index: {k: v for k, v in message.items() if k != "reasoning" or v}
        for index, message in folded.items()
    }
    for message in folded.values():
        message.pop("reasoning", None)
    assert transcript.messages() == folded


@given(events, cuts)
def test_what_is_fresh_is_what_would_be_taken(
    said: list[Visible], at: list[tuple[int, bool]]
) -> None:
    transcript = Transcript(CHOICES)
    for batch, is_taken in batches(said, at):
        transcript.feed(batch)
        if is_taken:
            fresh, taken = transcript.fresh_characters, transcript.taken()
            assert fresh == sum(map(_characters, taken.values()))


def _characters(part: Any) -> int:
    if isinstance(part, str):
        return len(part)
    return len(part["text"]) + sum(len(arguments) for *_, arguments in part["calls"])
