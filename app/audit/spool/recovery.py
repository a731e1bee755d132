"""What a dead process has left in its spool, brought to an end.

Every intent without an outcome gets one, `crashed`, with what its client had been sent up to the
last chunk; the chain goes on where it was, and is closed. All of it may be killed at any point and
done again: what was written counts, and what was not is written then.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from app.audit.chain import GENESIS, ChainHead
from app.audit.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointUnreadable,
    parse_checkpoint,
)
from app.audit.content.answers import AnswerOf
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.commit import BEGINNING, Commit, stated_sequence
from app.audit.spool.cursor import Found, SpoolCursor, WriterGone
from app.audit.spool.disk import Disk
from app.audit.spool.frames import CHAINED, Frame, FrameKind
from app.audit.spool.open_requests import OpenRequest, OpenRequests
from app.audit.spool.payloads import PayloadUnreadable, encode_outcome
from app.audit.spool.segment_start import decode_segment_start, follow
from app.audit.spool.segments import Position, list_segments, segment_path
from app.audit.spool.writer import SpoolWriter

CRASHED_STATUS = 500
CRASHED_CODE = "gateway_crashed"

# Written and synced together, in a segment of just that size.
GROUP_BYTES = 1024 * 1024

# Of a segment for less than that: the closing checkpoint goes beside it.
MIN_SEGMENT_BYTES = 8 * 1024

# From the writer's id, the chain and what its last checkpoint states, if there was one.
Closing = Callable[[str, ChainHead, int | None], Frame]
Closed = Callable[[Checkpoint], None]

log = structlog.get_logger()


@dataclass(slots=True)
class Recovered:
    """What was found in a directory, and what was done about it."""

    records: int = 0  # intents and outcomes that were read
    crashed: list[str] = field(default_factory=list)  # the requests that were ended, oldest first
    # Where frames end and something else than zeros follows.
    damaged: list[Position] = field(default_factory=list)
    # Records of which not even the request can be told. They stay where they are.
    unreadable: int = 0
    chain: ChainHead = GENESIS  # at the end


@dataclass(slots=True)
class _Left:
    """What was read."""

    recovered: Recovered = field(default_factory=Recovered)
    requests: OpenRequests = field(default_factory=OpenRequests)
    commit: Commit = BEGINNING
    closing: Checkpoint | None = None  # the last event, where it closes the chain


async def recover(
    directory: Path,
    disk: Disk,
    *,
    answer_of: AnswerOf,
    closing: Closing | None = None,
    closed: Closed = lambda checkpoint: None,
    now: Callable[[], float] = time.time,  # noqa: TID251 - frames say at what date they came
) -> Recovered:
    """Of a directory whose lock is ours, and in which nobody writes any more. Its name is the
    writer's id. `closing` makes the last checkpoint; `closed` hears of one that was there already:
    whoever made it may have died before the second place had it.

    Raises OSError where it cannot be read, and SpoolUnavailable where it cannot be written: it is
    then to be recovered again, and nothing of it to be shipped before.
    """
    left = await _read_in_a_thread(directory, disk)
    recovered = left.recovered
    must_close = closing is not None and left.commit.chain != GENESIS and left.closing is None
    if left.closing is not None:
        closed(left.closing)
    if recovered.crashed or must_close:
        writer = SpoolWriter(
            directory,
            disk,
            writer=directory.name,
            segment_bytes=MIN_SEGMENT_BYTES,
            continues=left.commit,
            reserve_segments=0,
            now=now,
        )
        try:
            await _end(writer, left.requests, answer_of)
            if closing is not None:
                last = writer.commit
                frame = closing(writer.writer, last.chain, last.checkpoint)
                await writer.append([frame], essential=True)
            recovered.chain = writer.chain
        finally:
            await writer.close()
    if recovered.records or recovered.damaged or recovered.unreadable:
        log.warning(
            "audit_spool_recovered",
            directory=str(directory),
            records=recovered.records,
            crashed_requests=len(recovered.crashed),
            damaged=[tuple(position) for position in recovered.damaged],
            unreadable=recovered.unreadable,
        )
    return recovered


def crashed_outcome(
    request_id: str, intent: AuditIntent | None = None, content: dict[str, Any] | None = None
) -> AuditOutcome:
    """The end of a request whose process died. The same whoever finds it, and whenever."""
    outcome = AuditOutcome(
        request_id,
        Outcome.CRASHED,
        CRASHED_STATUS,
        error_code=CRASHED_CODE,
        content=content,
    )
    if intent is None:
        return outcome
    return replace(
        outcome,
        received_at=intent.received_at,
        route=intent.route,
        key_id=intent.key_id,
        tenant=intent.tenant,
        model=intent.model,
    )


async def _read_in_a_thread(directory: Path, disk: Disk) -> _Left:
    stopped = threading.Event()
    reading = asyncio.ensure_future(asyncio.to_thread(_read_all, directory, disk, stopped))
    try:
        return await asyncio.shield(reading)
    finally:
        # Whoever cancels us lets go of the lock, and the thread must have done nothing after.
        stopped.set()
        await asyncio.wait([reading])


def _read_all(directory: Path, disk: Disk, stopped: threading.Event) -> _Left:
    """Removes the segments that hold nothing: a reserve, whose room the outcomes may need."""
    left = _Left()
    disk.sync_directory(directory)
    segments = list_segments(disk, directory)
    for segment in segments:
        # The process may have died between its write and its sync. What we take for written must
        # not be gone after a loss of power, when it may be in the database already.
        disk.sync_file(segment_path(directory, segment))
    holding = set()
    cursor = SpoolCursor(directory, disk, WriterGone(), Position(min(segments, default=0), 0))
    while segments and not stopped.is_set() and (found := cursor.read()):
        for one in found:
            holding.add(one.start.segment)
            _take(one, left)
    for segment in set(segments) - holding:
        if stopped.is_set():  # we may not have come to what it holds
            break
        disk.remove(segment_path(directory, segment))
    left.recovered.crashed = [request.request_id for request in left.requests]
    left.recovered.chain = left.commit.chain
    return left


def _take(found: Found, left: _Left) -> None:
    recovered = left.recovered
    left.commit = _follow(left.commit, found)
    if found.kind is None:
        recovered.damaged.append(found.start)
        return
    if found.kind in CHAINED:
        left.closing = _closing(found)
    is_record = found.kind in (FrameKind.INTENT, FrameKind.OUTCOME)
    try:
        left.requests.feed(found.kind, found.payload)
    except PayloadUnreadable:
        recovered.unreadable += 1
    else:
        recovered.records += is_record


def _follow(commit: Commit, found: Found) -> Commit:
    """The damage that nothing follows is a part of what there is: whoever reads it later is to find
    it, too."""
    checkpoint = commit.checkpoint
    if found.kind == FrameKind.CHECKPOINT:
        checkpoint = stated_sequence(found.payload, checkpoint)
    elif found.kind == FrameKind.SEGMENT:
        with suppress(PayloadUnreadable):  # what is known of it already stays
            checkpoint = decode_segment_start(found.payload).checkpoint
    chain = follow(commit.chain, found.kind, found.at, found.payload)
    return Commit(found.end, chain, max(commit.at, found.at), checkpoint)


def _closing(found: Found) -> Checkpoint | None:
    if found.kind != FrameKind.CHECKPOINT:
        return None
    try:
        checkpoint = parse_checkpoint(found.payload)
    except CheckpointUnreadable:
        return None
    return checkpoint if checkpoint.closed else None


async def _end(writer: SpoolWriter, requests: OpenRequests, answer_of: AnswerOf) -> None:
    """Writes the outcomes. Raises SpoolUnavailable."""
    group: list[Frame] = []
    size_bytes = 0
    for request in requests:
        # A thread: rules that mask take half a second a megabyte, and others are being served.
        ending = await asyncio.to_thread(_ending, request, answer_of)
        group += ending
        size_bytes += sum(frame.size_bytes for frame in ending)
        if size_bytes > GROUP_BYTES:
            await writer.append(group, essential=True)
            group, size_bytes = [], 0
    if group:
        await writer.append(group, essential=True)


def _ending(request: OpenRequest, answer_of: AnswerOf) -> list[Frame]:
    """The answer first: an outcome refers to what is there."""
    frames = []
    content = request.content
    answer = request.answer
    if answer is not None:
        answers = {}
        for choice, message in answer.messages().items():
            address, payload = answer_of(answer.tenant, answer.parent, orjson.dumps(message))
            answers[str(choice)] = address.hex()
            frames.append(Frame(FrameKind.MESSAGE, payload))
        content = {**(content or {}), "answers": answers, "partial": True}
        if answer.truncated:
            content["truncated"] = True
    outcome = crashed_outcome(request.request_id, request.intent, content)
    return [*frames, Frame(FrameKind.OUTCOME, encode_outcome(outcome))]
