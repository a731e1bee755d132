"""What a request whose process died had been asked and had been answered is in its outcome."""

from pathlib import Path

import orjson
import pytest

from app.audit.content.nodes import ROOT
from app.audit.records import AuditOutcome
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.open_requests import MAX_ANSWER_BYTES
from app.audit.spool.payloads import BodyPayload, ChunkPayload, encode_body, encode_chunk
from app.audit.spool.recovery import GROUP_BYTES, recover
from app.audit.spool.writer import SpoolWriter
from app.protocol.events import TextDelta, ToolCallDelta
from app.protocol.transcript import Transcript
from tests.support.spool_life import (
    PROMPT,
    TENANT,
    answer_of,
    body_frame,
    closing,
    content_of,
    intent_frame,
    outcome_frame,
)
from tests.support.spooled import Spooled, read_records


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / ("ab" * 16)
    path.mkdir()
    return path


async def after_a_crash(directory: Path, *frames: Frame) -> Spooled:
    writer = SpoolWriter(
        directory, RealDisk(), writer=directory.name, segment_bytes=64 * 1024, reserve_segments=0
    )
    await writer.append(frames)
    await writer.close()
    await recover(directory, RealDisk(), answer_of=answer_of, closing=closing)
    return read_records(directory)


def chunk(request_id: str, choices: dict[str, object], parent: str | None = PROMPT) -> Frame:
    payload = ChunkPayload(request_id, TENANT, parent, choices)
    return Frame(FrameKind.CHUNK, encode_chunk(payload))


def message(spooled: Spooled, outcome: AuditOutcome, choice: str = "0") -> dict[str, object]:
    assert outcome.content is not None
    stored = spooled.messages[bytes.fromhex(outcome.content["answers"][choice])]
    assert stored.intact
    assert stored.tenant == TENANT
    return orjson.loads(stored.text() or b"")


async def test_the_outcome_refers_to_what_was_asked(directory: Path) -> None:
    spooled = await after_a_crash(directory, intent_frame("a"), body_frame("a"))
    (outcome,) = spooled.outcomes["a"]
    assert outcome.content == content_of("a")
    assert spooled.messages == {}


async def test_without_a_body_nothing_of_it_is_known(directory: Path) -> None:
    (outcome,) = (await after_a_crash(directory, intent_frame("a"))).outcomes["a"]
    assert outcome.content is None


async def test_the_answer_is_kept_up_to_the_last_chunk(directory: Path) -> None:
    spooled = await after_a_crash(
        directory,
        intent_frame("a"),
        body_frame("a"),
        chunk("a", {"0": "Hel", "1": "Other"}),
        chunk("a", {"0": "lo"}),
    )
    (outcome,) = spooled.outcomes["a"]
    assert message(spooled, outcome) == {"role": "assistant", "content": "Hello"}
    assert message(spooled, outcome, "1") == {"role": "assistant", "content": "Other"}
    assert outcome.content is not None
    assert outcome.content == content_of("a") | {
        "answers": outcome.content["answers"],
        "partial": True,
    }
    parents = {stored.parent for stored in spooled.messages.values()}
    assert parents == {bytes.fromhex(PROMPT)}


async def test_tool_calls_are_part_of_it(directory: Path) -> None:
    transcript = Transcript()
    frames = []
    for piece in (TextDelta(0, "Let me "), ToolCallDelta(0, 0, '{"a"', "call_1", "f")):
        transcript.feed([piece])
        frames.append(chunk("a", transcript.taken()))
    spooled = await after_a_crash(directory, intent_frame("a"), body_frame("a"), *frames)
    (outcome,) = spooled.outcomes["a"]
    answer = message(spooled, outcome)
    assert answer["content"] == "Let me "
    assert answer["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    ]


async def test_without_the_address_of_what_was_asked_the_answer_stands_alone(
    directory: Path,
) -> None:
    spooled = await after_a_crash(directory, intent_frame("a"), chunk("a", {"0": "x"}, None))
    (stored,) = spooled.messages.values()
    assert stored.parent == ROOT


async def test_a_long_answer_is_cut_and_says_so(directory: Path) -> None:
    piece = "x" * 100_000
    frames = [chunk("a", {"0": piece}) for _ in range(MAX_ANSWER_BYTES // 100_000 + 5)]
    spooled = await after_a_crash(directory, intent_frame("a"), body_frame("a"), *frames)
    (outcome,) = spooled.outcomes["a"]
    assert outcome.content is not None
    assert outcome.content["truncated"] is True
    assert outcome.content["partial"] is True
    text = message(spooled, outcome)["content"]
    assert isinstance(text, str)
    assert 0.8 * MAX_ANSWER_BYTES < len(text) <= MAX_ANSWER_BYTES


async def test_answers_larger_than_a_group_together_are_all_kept(directory: Path) -> None:
    ids = [f"req_{number}" for number in range(5)]
    frames: list[Frame] = []
    for request_id in ids:
        # Each its own, or they would be one message.
        text = request_id + "x" * (GROUP_BYTES // 2)
        frames += [intent_frame(request_id), body_frame(request_id), chunk(request_id, {"0": text})]
    spooled = await after_a_crash(directory, *frames)
    for request_id in ids:
        (outcome,) = spooled.outcomes[request_id]
        content = message(spooled, outcome)["content"]
        assert content == request_id + "x" * (GROUP_BYTES // 2)


async def test_what_has_ended_gets_no_answer(directory: Path) -> None:
    spooled = await after_a_crash(
        directory, intent_frame("a"), chunk("a", {"0": "x"}), outcome_frame("a")
    )
    assert spooled.messages == {}
    assert len(spooled.outcomes["a"]) == 1


async def test_a_body_or_chunk_that_cannot_be_read_hides_nothing_else(directory: Path) -> None:
    spooled = await after_a_crash(
        directory,
        intent_frame("a"),
        Frame(FrameKind.BODY, b"not json"),
        Frame(FrameKind.CHUNK, b"not json"),
        Frame(FrameKind.CHUNK, b'{"request_id":"a","tenant":7}'),
        Frame(FrameKind.BODY, encode_body(BodyPayload("a", content_of("a")))),
        chunk("a", {"0": "x"}),
    )
    (outcome,) = spooled.outcomes["a"]
    assert message(spooled, outcome)["content"] == "x"
