"""What a dead process has left in its spool, brought to an end.

Every intent without an outcome gets one, `crashed`. All of it may be killed at any point and done
again: the outcomes that were written count, and those that were not are written then.
"""

import asyncio
import threading
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import structlog

from app.audit.records import AuditOutcome, Outcome
from app.audit.spool.cursor import Found, SpoolCursor, WriterGone
from app.audit.spool.disk import Disk
from app.audit.spool.frames import FrameKind, encode
from app.audit.spool.open_intents import OpenIntents
from app.audit.spool.payloads import PayloadUnreadable, encode_outcome
from app.audit.spool.segments import Position, list_segments, segment_path
from app.audit.spool.writer import SpoolWriter

CRASHED_STATUS = 500
CRASHED_CODE = "gateway_crashed"
# Written and synced together; 100 KB, far below what a writer lets wait.
GROUP_RECORDS = 512

log = structlog.get_logger()


@dataclass(slots=True)
class Recovered:
    """What was found in a directory, and what was done about it."""

    records: int = 0  # intents and outcomes that were read
    crashed: list[str] = field(default_factory=list)  # the requests that were ended, oldest first
    # Where frames end and something else than zeros follows, which was never acknowledged.
    damaged: list[Position] = field(default_factory=list)
    # Records of which not even the request can be told. They stay where they are.
    unreadable: int = 0


async def recover(directory: Path, disk: Disk) -> Recovered:
    """Of a directory whose lock is ours, and in which nobody writes any more.

    Raises OSError where it cannot be read, and SpoolUnavailable where it cannot be written: it is
    then to be recovered again, and nothing of it to be shipped before.
    """
    recovered = await _read_in_a_thread(directory, disk)
    if recovered.crashed:
        await _end(recovered.crashed, directory, disk)
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


def crashed_outcome(request_id: str) -> AuditOutcome:
    """The end of a request whose process died. The same whoever finds it, and whenever."""
    return AuditOutcome(request_id, Outcome.CRASHED, CRASHED_STATUS, error_code=CRASHED_CODE)


async def _read_in_a_thread(directory: Path, disk: Disk) -> Recovered:
    stopped = threading.Event()
    reading = asyncio.ensure_future(asyncio.to_thread(_read_all, directory, disk, stopped))
    try:
        return await asyncio.shield(reading)
    finally:
        # Whoever cancels us lets go of the lock, and the thread must have done nothing after.
        stopped.set()
        await asyncio.wait([reading])


def _read_all(directory: Path, disk: Disk, stopped: threading.Event) -> Recovered:
    """Removes the segments that hold nothing: a reserve, whose room the outcomes may need."""
    recovered = Recovered()
    intents = OpenIntents()
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
            _take(one, intents, recovered)
    for segment in set(segments) - holding:
        if stopped.is_set():  # we may not have come to what it holds
            break
        disk.remove(segment_path(directory, segment))
    recovered.crashed = intents.request_ids
    return recovered


def _take(found: Found, intents: OpenIntents, recovered: Recovered) -> None:
    if found.kind is None:
        recovered.damaged.append(found.start)
    elif found.kind in (FrameKind.INTENT, FrameKind.OUTCOME):
        try:
            intents.feed(found.start.segment, found.kind, found.payload)
        except PayloadUnreadable:
            recovered.unreadable += 1
        else:
            recovered.records += 1
    # Others are a newer gateway's, and neither the beginning nor the end of a request.


async def _end(request_ids: list[str], directory: Path, disk: Disk) -> None:
    """Writes their outcomes into a new segment that has room for just these."""
    frames = [
        encode(FrameKind.OUTCOME, encode_outcome(crashed_outcome(request_id)))
        for request_id in request_ids
    ]
    segment_bytes = sum(map(len, frames))
    writer = SpoolWriter(directory, disk, segment_bytes=segment_bytes, reserve_segments=0)
    try:
        remaining = iter(frames)
        while group := list(islice(remaining, GROUP_RECORDS)):
            await _append(writer, group)
    finally:
        await writer.close()


async def _append(writer: SpoolWriter, group: list[bytes]) -> None:
    """Raises SpoolUnavailable, once none of them is on its way any more."""
    appends = [writer.append(frame, essential=True) for frame in group]
    for result in await asyncio.gather(*appends, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
