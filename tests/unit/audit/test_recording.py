"""What is on disk of a request, and when, and that it comes to one end whatever the disk does."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.audit.content.redaction import Redaction
from app.audit.recording import INLINE_BODY_BYTES, Recording
from app.audit.records import AuditLevel, Outcome
from app.audit.spool.frames import FrameKind
from app.audit.spool.log import AuditUnavailable
from app.protocol.events import TextDelta
from app.protocol.request import Json
from tests.support.conditions import eventually
from tests.support.faulty_disk import Operation
from tests.unit.audit.recordings import HANGING_SECONDS, HELLO, Desk, desk, outcome

LARGE = INLINE_BODY_BYTES + 1
LONG = "a long piece of an answer " * 4  # enough for a chunk
WITHIN_SECONDS = 60.0  # only spent on failure


@pytest.fixture
async def spool() -> AsyncIterator[Desk]:
    async with desk() as made:
        yield made


async def say(recording: Recording, text: str) -> None:
    written = recording.said([TextDelta(0, text)])
    if written is not None:
        await written


async def durable(spool: Desk) -> None:
    await eventually(lambda: not spool.writer.waiting_bytes, WITHIN_SECONDS, "all is written")


async def test_a_small_body_is_durable_with_the_intent(spool: Desk) -> None:
    recording = spool.recording()
    await recording.begin()
    assert spool.kinds == [
        FrameKind.INTENT,
        FrameKind.MESSAGE,
        FrameKind.MESSAGE,
        FrameKind.BODY,
    ]
    assert recording.said([]) is None


async def test_an_outcome_refers_to_what_was_asked_and_answered(spool: Desk) -> None:
    recording = spool.recording()
    await recording.begin()
    await say(recording, "Good ")
    await say(recording, "day.")
    await recording.end(outcome("req_0"))
    content = spool.outcomes["req_0"].content
    assert content is not None
    assert spool.text_of(content["prompt"]) == HELLO["messages"][0]
    assert spool.text_of(content["envelope"]) == {"model": "qwythos"}
    answer = spool.messages[content["answers"]["0"]]
    assert answer.parent.hex() == content["prompt"]
    assert spool.text_of(content["answers"]["0"]) == {"role": "assistant", "content": "Good day."}


async def test_a_body_that_is_stored_is_not_stored_again(spool: Desk) -> None:
    for number in range(2):
        recording = spool.recording()
        await recording.begin()
        await recording.end(outcome(f"req_{number}"))
    assert spool.kinds.count(FrameKind.MESSAGE) == 2


async def test_a_body_whose_write_failed_is_stored_by_the_next(spool: Desk) -> None:
    spool.disk.fail(Operation.WRITE)
    with pytest.raises(AuditUnavailable):
        await spool.recording().begin()
    spool.disk.heal()
    await eventually(lambda: spool.writer.accepting, WITHIN_SECONDS, "it takes work again")
    await spool.recording().begin()
    assert spool.kinds.count(FrameKind.MESSAGE) == 2


async def test_nothing_is_sent_before_a_large_body_is_durable() -> None:
    async with desk(write_seconds=60) as spool:
        recording = spool.recording(body_bytes=LARGE)
        await recording.begin()
        assert spool.kinds == [FrameKind.INTENT]
        with spool.disk.hold_syncs() as held:
            waiting = recording.said([])
            assert waiting is not None
            sending = asyncio.ensure_future(waiting)
            await asyncio.to_thread(held.wait)
            assert not sending.done()
        await sending
        assert FrameKind.BODY in spool.kinds
        assert recording.said([TextDelta(0, "Hi")]) is None


async def test_a_large_body_that_cannot_be_stored_fails_the_answer(spool: Desk) -> None:
    recording = spool.recording(body_bytes=LARGE)
    await recording.begin()
    spool.disk.fail(Operation.SYNC)
    with pytest.raises(AuditUnavailable):
        await say(recording, "Hi")
    spool.disk.heal()
    await recording.end(outcome("req_0", Outcome.FAILED))
    assert spool.outcomes["req_0"].content is None


async def test_a_large_body_is_taken_apart_in_a_thread_and_a_crowd_of_messages_too() -> None:
    threads: list[threading.Thread] = []

    class Watching(Redaction):
        def scrubbed(self, value: Json) -> bytes:
            threads.append(threading.current_thread())
            return super().scrubbed(value)

    crowd = {"model": "m", "messages": [{"role": "user", "content": ""}] * 300}
    async with desk(redaction=Watching()) as spool:
        for recording in (spool.recording(body_bytes=LARGE), spool.recording(crowd)):
            await recording.begin()
            await say(recording, "Hi")
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(("thought", "inline"), [("short", True), ("long " * 1_000, False)])
async def test_a_long_thought_is_masked_in_a_thread(thought: str, inline: bool) -> None:
    threads: list[threading.Thread] = []

    class Masking(Redaction):
        masks = True

        def masked(self, value: Json) -> bytes:
            threads.append(threading.current_thread())
            return self.scrubbed(value)

    async with desk(redaction=Masking()) as spool:
        recording = spool.recording(
            level=AuditLevel.FULL_AND_REASONING, thoughts=lambda: {0: thought}
        )
        await recording.begin()
        await say(recording, "Hi")
        threads.clear()
        await recording.end(outcome("req_0"))
    assert [thread is threading.main_thread() for thread in threads] == [inline]


async def test_at_the_level_metadata_no_text_is_kept(spool: Desk) -> None:
    recording = spool.recording(level=AuditLevel.METADATA)
    await recording.begin()
    await say(recording, LONG)
    await recording.end(outcome("req_0"))
    assert spool.kinds == [FrameKind.INTENT, FrameKind.OUTCOME]
    assert spool.outcomes["req_0"].content is None


@pytest.mark.parametrize("level", [AuditLevel.FULL, AuditLevel.FULL_AND_REASONING])
async def test_a_thought_is_kept_where_the_level_says_so(spool: Desk, level: AuditLevel) -> None:
    recording = spool.recording(level=level, thoughts=lambda: {0: "a deep thought"})
    await recording.begin()
    await say(recording, LONG)
    await durable(spool)
    await recording.end(outcome("req_0"))
    content = spool.outcomes["req_0"].content
    assert content is not None
    kept = level is AuditLevel.FULL_AND_REASONING
    assert ("reasoning" in spool.text_of(content["answers"]["0"])) is kept
    assert (spool.chunks[0]["thoughts"] == {"0": "a deep thought"}) is kept
    assert (b"a deep thought" in spool.written) is kept


async def test_a_thought_without_an_answer_is_kept(spool: Desk) -> None:
    level = AuditLevel.FULL_AND_REASONING
    recording = spool.recording(level=level, thoughts=lambda: {0: "cut off"})
    await recording.begin()
    await recording.end(outcome("req_0", Outcome.CANCELLED))
    content = spool.outcomes["req_0"].content
    assert content is not None
    assert spool.text_of(content["answers"]["0"])["reasoning"] == "cut off"


# -- chunks


def told(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"].get("0", "") for chunk in chunks)


async def test_so_much_text_is_a_chunk(spool: Desk) -> None:
    recording = spool.recording()
    await recording.begin()
    await say(recording, "One ")
    assert spool.chunks == []
    await say(recording, LONG)
    await durable(spool)
    await say(recording, "two ")
    assert [chunk["choices"] for chunk in spool.chunks] == [{"0": "One " + LONG}]
    assert spool.text_of(spool.chunks[0]["parent"]) == HELLO["messages"][0]


@pytest.mark.parametrize("body_bytes", [None, LARGE], ids=["small", "large"])
async def test_what_was_said_is_a_chunk_in_time_though_nothing_more_is_said(
    body_bytes: int | None,
) -> None:
    thoughts = {0: "Hm"}
    async with desk(chunk_seconds=0.01) as spool:
        level = AuditLevel.FULL_AND_REASONING
        recording = spool.recording(level=level, thoughts=lambda: thoughts, body_bytes=body_bytes)
        await recording.begin()
        waiting = recording.said([])
        if waiting is not None:
            await waiting
        await eventually(lambda: len(spool.chunks) == 1, WITHIN_SECONDS, "the thought is kept")
        spool.clock.seconds += 1
        thoughts[0] = "Hmm."
        await eventually(lambda: len(spool.chunks) == 2, WITHIN_SECONDS, "and how it goes on")
        await say(recording, "Yes.")
        await eventually(lambda: len(spool.chunks) == 3, WITHIN_SECONDS, "and what is said")
        assert [chunk["thoughts"] for chunk in spool.chunks] == [{"0": "Hm"}, {"0": "m."}, {}]
        assert told(spool.chunks) == "Yes."
        await recording.end(outcome("req_0"))


async def test_after_the_end_there_are_no_chunks() -> None:
    async with desk(chunk_seconds=0.001) as spool:
        recording = spool.recording()
        await recording.begin()
        await say(recording, "One ")
        await recording.end(outcome("req_0"))
        other = spool.recording()
        await other.begin()
        await say(other, "two ")
        await eventually(lambda: bool(spool.chunks), WITHIN_SECONDS, "the other's chunk")
        assert told(spool.chunks) == "two "
        await other.end(outcome("req_1"))


async def test_a_chunk_that_was_refused_goes_with_the_next() -> None:
    async with desk(chunk_seconds=0.01) as spool:
        recording = spool.recording()
        await recording.begin()
        spool.disk.fail(Operation.SYNC)
        for number in range(3):
            await say(recording, f"{number}" * 100)
            await durable(spool)  # or refused: it does not wait any more
        await say(recording, "the rest")
        spool.disk.heal()
        whole = "0" * 100 + "1" * 100 + "2" * 100 + "the rest"
        await eventually(lambda: told(spool.chunks) == whole, WITHIN_SECONDS, "all of it is kept")
        await recording.end(outcome("req_0"))


async def test_a_disk_that_hangs_gets_one_chunk_of_an_answer(spool: Desk) -> None:
    recording = spool.recording()
    await recording.begin()
    with spool.disk.hold_syncs() as held:
        await say(recording, "0" * 100)
        await asyncio.to_thread(held.wait)
        waiting = spool.writer.waiting_bytes
        await say(recording, "1" * 100)
        await say(recording, "2" * 100)
        assert spool.writer.waiting_bytes == waiting
    await durable(spool)
    assert told(spool.chunks) == "0" * 100
    await say(recording, "3" * 100)
    await durable(spool)
    assert told(spool.chunks) == "".join(str(number) * 100 for number in range(4))
    await recording.end(outcome("req_0"))


async def test_strict_has_each_piece_on_disk_before_it_is_sent() -> None:
    async with desk(strict=True) as spool:
        recording = spool.recording()
        await recording.begin()
        assert recording.said([]) is None
        for text in ("Each ", "piece."):
            await say(recording, text)
            assert spool.chunks[-1]["choices"] == {"0": text}
        spool.disk.fail(Operation.WRITE)
        with pytest.raises(AuditUnavailable):
            await say(recording, "not this one")


# -- cancellation


async def test_a_request_that_is_cancelled_at_its_intent_has_one_end() -> None:
    async with desk(write_seconds=60) as spool:
        recording = spool.recording()
        with spool.disk.hold_syncs() as held:
            beginning = asyncio.ensure_future(recording.begin())
            await asyncio.to_thread(held.wait)
            beginning.cancel()
            ending = asyncio.ensure_future(recording.end(outcome("req_0", Outcome.DRAINED)))
            await asyncio.sleep(0)
        await ending
        assert spool.intents == ["req_0"]
        assert spool.outcomes["req_0"].content is not None


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC])
async def test_one_that_is_cancelled_at_an_intent_that_fails_leaves_no_end_alone(
    fault: int,
) -> None:
    async with desk(write_seconds=60) as spool:
        recording = spool.recording()
        with spool.disk.hold_syncs() as held:
            beginning = asyncio.ensure_future(recording.begin())
            await asyncio.to_thread(held.wait)
            beginning.cancel()
            ending = asyncio.ensure_future(recording.end(outcome("req_0", Outcome.DRAINED)))
            await asyncio.sleep(0)
            spool.disk.fail(Operation.SYNC, fault)
        with pytest.raises(AuditUnavailable):
            await ending
        spool.disk.heal()
        await eventually(lambda: spool.writer.accepting, WITHIN_SECONDS, "it takes work again")
        await durable(spool)
        assert spool.intents == []
        assert spool.outcomes == {}


# -- disks


@pytest.fixture
async def hanging() -> AsyncIterator[Desk]:
    """For a disk that is about to hang."""
    async with desk(write_seconds=HANGING_SECONDS) as made:
        yield made


async def test_a_disk_that_hangs_at_the_intent_and_goes_on_has_both_once(hanging: Desk) -> None:
    recording = hanging.recording()
    with hanging.disk.hold_syncs():
        with pytest.raises(AuditUnavailable):
            await recording.begin()
        with pytest.raises(AuditUnavailable):
            await recording.end(outcome("req_0", Outcome.REFUSED))
    await eventually(lambda: bool(hanging.outcomes), WITHIN_SECONDS, "the end is written")
    assert hanging.intents == ["req_0"]


async def test_a_disk_that_hangs_at_the_intent_and_then_fails_has_neither(hanging: Desk) -> None:
    recording = hanging.recording()
    with hanging.disk.hold_syncs():
        with pytest.raises(AuditUnavailable):
            await recording.begin()
        with pytest.raises(AuditUnavailable):
            await recording.end(outcome("req_0", Outcome.REFUSED))
        hanging.disk.fail(Operation.SYNC)
    await durable(hanging)  # or given up: nothing waits any more
    hanging.disk.heal()
    await eventually(lambda: hanging.writer.accepting, WITHIN_SECONDS, "it takes work again")
    await durable(hanging)
    assert hanging.kinds == []


async def test_an_end_that_finds_the_queue_full_is_written_later() -> None:
    async with desk(queue_bytes=4_000, write_seconds=HANGING_SECONDS) as spool:
        recording = spool.recording()
        await recording.begin()
        running = asyncio.ensure_future(spool.recorder.open_metadata.run())
        with spool.disk.hold_syncs() as held:
            await say(recording, "word " * 4_000)
            await asyncio.to_thread(held.wait, 0.1)
            with pytest.raises(AuditUnavailable):
                await recording.end(outcome("req_0"))
        await eventually(lambda: bool(spool.outcomes), WITHIN_SECONDS, "the end is written")
        running.cancel()
        assert spool.intents == ["req_0"]


async def test_an_end_without_its_text_is_an_end(spool: Desk) -> None:
    recording = spool.recording()
    await recording.begin()
    await say(recording, "Hi")
    recording.forget_text()
    await recording.end(outcome("req_0", Outcome.CRASHED))
    assert spool.outcomes["req_0"].content is None
