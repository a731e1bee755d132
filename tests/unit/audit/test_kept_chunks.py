"""What of a running answer is never in a chunk of it."""

from typing import Any

import pytest

from app.audit.content.redaction import Redaction, masking
from app.audit.recording import Recording
from app.audit.records import AuditLevel
from app.protocol.events import TextDelta, ToolCallDelta, Visible
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from app.protocol.filters.text_filter import TextFilter
from tests.unit.audit.recordings import desk, outcome

SECRET = "sk-qw-" + "aB3dEfGh1jKlMn0pQrStUvWxYz" * 2
TICKET = "ACME-4711"
MASKING = masking(
    FilterRules([(Rule("t.ticket", "ACME-[0-9]{4}", 9, replacement="[ticket]"), Action.MASK)])
)


async def show(recording: Recording, *events: Visible) -> None:
    written = recording.said(events)
    assert written is not None
    await written


@pytest.mark.parametrize("cuts", [[60], [3, 60], [10, 60], [20, 30, 60], list(range(1, 60, 3))])
async def test_no_chunk_holds_a_secret_of_ours(cuts: list[int]) -> None:
    async with desk(strict=True) as spool:
        recording = spool.recording()
        await recording.begin()
        text = f"It is {SECRET}, yes."
        start = 0
        for end in [*cuts, len(text)]:
            call = ToolCallDelta(0, 0, text[start:end], *((SECRET, "f") if not start else ()))
            await show(recording, TextDelta(0, text[start:end]), call)
            start = end
        await recording.end(outcome("req_0"))
        assert SECRET[:20].encode() not in spool.written
        shown = "".join(chunk["choices"]["0"]["text"] for chunk in spool.chunks)
        assert shown.startswith("It is sk-qw-")
        assert shown.endswith("***, yes.")


async def test_no_chunk_holds_what_rules_mask() -> None:
    """Nor does one hold the beginning of what they would."""
    thoughts = {0: ""}
    async with desk(strict=True, chunk_seconds=0.01, redaction=Redaction(MASKING)) as spool:
        level = AuditLevel.FULL_AND_REASONING
        recording = spool.recording(level=level, thoughts=lambda: thoughts)
        await recording.begin()
        for piece in f"{TICKET}, of course.":
            spool.clock.seconds += 1
            thoughts[0] += piece
            await show(recording, TextDelta(0, piece))
        await show(recording, ToolCallDelta(0, 0, '{"id":"ACME\\u002d4711"}', "call_1", "find"))
        chunks = spool.chunks
        assert TICKET[:4].encode() not in spool.written
        await recording.end(outcome("req_0"))
        assert TICKET.encode() not in spool.written
    parts = [chunk["choices"]["0"] for chunk in chunks if chunk["choices"]]
    assert "".join(parts[:-1]) == "[ticket], of course."
    assert parts[-1]["calls"] == [[0, "call_1", "find", '{"id":"[ticket]"}']]
    assert "".join(chunk["thoughts"].get("0", "") for chunk in chunks) == "[ticket], of course."


async def test_an_answer_that_cannot_be_searched_is_in_no_chunk_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A text with a hole in it would be another text."""
    failures: list[Exception] = []
    feed = TextFilter.feed

    def fail(texts: TextFilter, piece: str) -> str:
        if piece == "two":
            raise RuntimeError(piece)
        return feed(texts, piece)

    async with desk(strict=True, redaction=Redaction(MASKING, failures.append)) as spool:
        recording = spool.recording()
        await recording.begin()
        monkeypatch.setattr(TextFilter, "feed", fail)
        for piece in ("one", "two", "three"):
            await show(recording, TextDelta(0, piece))
        chunks: list[dict[str, Any]] = spool.chunks
        monkeypatch.undo()
        await recording.end(outcome("req_0"))
        content = spool.outcomes["req_0"].content
        assert content is not None
        assert spool.text_of(content["answers"]["0"])["content"] == "onetwothree"
    assert [chunk["choices"] for chunk in chunks] == [{"0": "one"}]
    assert [str(failure) for failure in failures] == ["two"]
