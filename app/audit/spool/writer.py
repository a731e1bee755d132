"""Frames onto the disk: whoever appends some goes on once they are durable.

One thread commits in groups: it takes all frames that wait, says when, links them into the chain,
writes them, syncs once, and tells the loop. While it syncs the next group gathers, so a slow disk
makes larger groups, and nothing waits for company.
"""

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import accumulate, takewhile
from pathlib import Path
from queue import Empty, SimpleQueue

import structlog

from app.audit.chain import ChainHead
from app.audit.spool.commit import BEGINNING, Commit, lay_out
from app.audit.spool.disk import Disk
from app.audit.spool.frames import Frame, FrameKind, check_frame
from app.audit.spool.segments import OpenSegment, Position, Segments

# So long after a failure is the disk tried again: soon enough for whoever makes room, and seldom
# enough to be no load.
RETRY_SECONDS = 1.0

# Frames in memory that wait for the disk: more than the largest frame, and some seconds of records
# at a disk that stalls. Essential frames may take as much again.
QUEUE_BYTES = 64 * 1024 * 1024

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.get_logger()


class Reason(StrEnum):
    """Why the spool takes nothing."""

    DISK_FULL = "disk_full"
    DISK_FAILED = "disk_failed"
    QUEUE_FULL = "queue_full"  # the disk is slower than what comes
    CLOSED = "closed"


class SpoolUnavailable(Exception):
    """The frames are not known to be durable, and may be nevertheless."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Waiting:
    frames: Sequence[Frame]
    size_bytes: int
    essential: bool
    durable: asyncio.Future[None]


class SpoolWriter:
    """Appends to the segments of `directory`, which is there and nobody else's. Made in the
    event loop that it then belongs to. `writer` is the id of whose chain it is, and `continues`
    what of that is there already, for whoever ends a dead process's.

    Where no reserve segment can be made there is room for what is essential alone, and `accepting`
    is False. It is too where nothing can be written at all. Both are tried again after
    `retry_seconds`, whether something is appended or not: a gateway that is not ready gets no work
    that would make it try. An essential frame that could not be written is kept, and written when
    that succeeds, although its waiter was told that it was not.

    The thread runs from the construction on, until `close`. Raises OSError for a directory that
    cannot be listed.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        *,
        writer: str,
        segment_bytes: int,
        continues: Commit = BEGINNING,
        reserve_segments: int = 1,
        queue_bytes: int = QUEUE_BYTES,
        retry_seconds: float = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,  # noqa: TID251 - frames say at what date they came
    ) -> None:
        """`clock` is monotonic; `now` gives wall-clock seconds since the epoch."""
        self.writer = writer
        self._directory = str(directory)
        self._queue_bytes = queue_bytes
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._now = now
        self._segments = Segments(
            directory, disk, segment_bytes=segment_bytes, reserve_segments=reserve_segments
        )
        # Set whole by the thread, so that others never see a part of it without the rest.
        self.commit = continues
        self.advanced = asyncio.Event()  # set by every commit, cleared by who waits for it

        # The loop's own.
        self._loop = asyncio.get_running_loop()
        self._waiting_bytes = 0
        self._closed = False
        self._ended = asyncio.Event()

        # The thread's own; others look at the reasons.
        self._taken: list[_Waiting] = []  # from the queue, and not durable yet
        self._lacking: Reason | None = None  # why there is no reserve
        self._stalled: Reason | None = None  # why nothing can be written
        self._next_try = 0.0
        self._dead = False

        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()  # None: there will be no more
        self._thread = threading.Thread(target=self._run, name="audit-spool", daemon=True)
        self._thread.start()

    @property
    def refusal(self) -> Reason | None:
        """Why new work is refused; None where it is not."""
        if self._closed or self._dead:
            return Reason.CLOSED
        return self._stalled or self._lacking

    @property
    def accepting(self) -> bool:
        return self.refusal is None

    @property
    def waiting_bytes(self) -> int:
        """Of frames that are not durable yet."""
        return self._waiting_bytes

    @property
    def committed(self) -> Position:
        """The end of what is durable."""
        return max(self.commit.position, Position(self._segments.first_number, 0))

    @property
    def chain(self) -> ChainHead:
        """Of what is durable."""
        return self.commit.chain

    def durable_end(self, number: int) -> int | None:
        """Up to where that segment holds what was acknowledged, in bytes. What stands behind, in a
        segment that was given up, was written again to a later one or refused.

        None for a segment that was there before this writer.
        """
        return self._segments.durable_end(number)

    async def append(self, frames: Sequence[Frame], *, essential: bool = False) -> None:
        """As `submit`; durable on return. Raises SpoolUnavailable. Whoever is cancelled while
        waiting has them written nevertheless."""
        await self.submit(frames, essential=essential)

    def submit(self, frames: Sequence[Frame], *, essential: bool = False) -> asyncio.Future[None]:
        """Hands over frames that stand together in one segment, without waiting. The future has a
        result once all are durable, or SpoolUnavailable.

        Raises SpoolUnavailable where they are refused at once; ValueError for what is no frame.
        """
        size_bytes = _check(frames)
        refusal = self.refusal
        if refusal is not None and (refusal is Reason.CLOSED or not essential):
            raise SpoolUnavailable(refusal)
        bound = 2 * self._queue_bytes if essential else self._queue_bytes
        if self._waiting_bytes + size_bytes > bound:
            raise SpoolUnavailable(Reason.QUEUE_FULL)
        durable = self._loop.create_future()
        self._waiting_bytes += size_bytes
        self._queue.put(_Waiting(tuple(frames), size_bytes, essential, durable))
        return durable

    async def close(self) -> None:
        """Writes what waits, and ends the thread. What a disk that fails does not take is lost."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    # In the loop, called by the thread.

    def _acknowledge(self, group: list[_Waiting]) -> None:
        for waiting in group:
            self._waiting_bytes -= waiting.size_bytes
            if not waiting.durable.done():
                waiting.durable.set_result(None)
        self.advanced.set()

    def _refuse(self, group: list[_Waiting], reason: Reason, *, kept: bool = False) -> None:
        for waiting in group:
            if not kept:
                self._waiting_bytes -= waiting.size_bytes
            if not waiting.durable.done():
                waiting.durable.set_exception(SpoolUnavailable(reason))

    def _end(self, lost: list[_Waiting]) -> None:
        """What was put in the queue while the thread ended is lost too: here nothing can follow."""
        with suppress(Empty):  # all are taken
            while True:
                waiting = self._queue.get_nowait()
                if waiting is not None:
                    lost.append(waiting)
        if lost:
            frames = sum(len(waiting.frames) for waiting in lost)
            log.error("audit_spool_lost_frames", frames=frames)
        self._refuse(lost, Reason.CLOSED)
        self._ended.set()

    # In the thread.

    def _run(self) -> None:
        try:
            self._replenish()
            while not self._take():
                self._write(due=self._clock() >= self._next_try)
            self._write(due=True)
        finally:  # after a defect of ours too: nobody may wait for a thread that is gone
            self._segments.close()
            self._dead = True
            self._call_back(self._end, self._taken)

    def _take(self) -> bool:
        """Waits for a frame, or for the time of the next try, and takes all that is there.

        True once there will be no more.
        """
        timeout_seconds = None
        if self._stalled or self._lacking:
            timeout_seconds = max(0.0, self._next_try - self._clock())
        with suppress(Empty):  # nothing came, and it is time
            waiting = self._queue.get(timeout=timeout_seconds)
            while waiting is not None:
                self._taken.append(waiting)
                waiting = self._queue.get_nowait()
            return True
        return False

    def _write(self, *, due: bool) -> None:
        """Writes what was taken, where it can. `due`: what failed before is tried again."""
        if self._stalled or self._lacking:
            if not due:  # taken while the reason arose
                self._drop_inessential(self._stalled or self._lacking)
            else:
                self._replenish()
            if self._stalled and not due:
                return
            # What no segment can be made for may not keep the rest from the reserve.
            self._taken.sort(key=lambda waiting: self._segments.is_oversized(waiting.size_bytes))
        try:
            while self._taken:
                self._write_group()
        except OSError as error:
            self._stall(error)
        else:
            if self._stalled is not None:
                log.warning("audit_spool_writes_again")
                self._stalled = None

    def _write_group(self) -> None:
        """Writes as much of what was taken as one segment has room for. A segment that fails is
        given up, and it goes into the next. Raises OSError where that fails too."""
        for last_try in (False, True):
            segment = self._segments.with_room(self._taken[0].size_bytes)
            if self._segments.lacking and not self._lacking and not self._replenish():
                return  # fewer may be taken now
            room = segment.room_bytes
            ends = accumulate(waiting.size_bytes for waiting in self._taken)
            count = sum(1 for _ in takewhile(room.__ge__, ends))
            group = self._taken[:count]
            try:
                commit = self._write_into(segment, group)
            except OSError as error:
                self._segments.abandon_current()
                log.error("audit_segment_given_up", segment=segment.number, reason=error.strerror)
                if last_try:
                    raise
            else:
                del self._taken[:count]
                self.commit = commit
                self._call_back(self._acknowledge, group)
                return

    def _write_into(self, segment: OpenSegment, group: list[_Waiting]) -> Commit:
        """Writes the group. Raises OSError; the chain is then what it was."""
        frames = [frame for waiting in group for frame in waiting.frames]
        at = int(self._now() * 1_000_000)
        data, commit = lay_out(self.writer, self.commit, frames, at, begun=segment.begun)
        segment.write(data)
        return commit.at_position(Position(segment.number, segment.synced_bytes))

    def _replenish(self) -> bool:
        """Makes the reserve whole. Where it cannot, only what is essential is written on."""
        try:
            self._segments.replenish()
        except OSError as error:
            if self._lacking is None:
                self._tell("audit_spool_refuses_new_work", error)
            self._lacking = _reason(error)
            self._next_try = self._clock() + self._retry_seconds
            self._drop_inessential(self._lacking)
            return False
        if self._lacking is not None:
            log.warning("audit_spool_has_room_again")
            self._lacking = None
        return True

    def _stall(self, error: OSError) -> None:
        """Tells all who wait. What is essential stays taken."""
        if self._stalled is None:
            self._tell("audit_spool_cannot_write", error)
        self._stalled = _reason(error)
        self._next_try = self._clock() + self._retry_seconds
        self._drop_inessential(self._stalled)
        self._call_back(partial(self._refuse, kept=True), self._taken.copy(), self._stalled)

    def _tell(self, event: str, error: OSError) -> None:
        """With the directory: of several disks, it says which one needs room."""
        log.error(event, reason=error.strerror, directory=self._directory)

    def _drop_inessential(self, reason: Reason | None) -> None:
        dropped = [waiting for waiting in self._taken if not waiting.essential]
        if dropped:
            self._taken = [waiting for waiting in self._taken if waiting.essential]
            self._call_back(self._refuse, dropped, reason)

    def _call_back(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # a loop that is closed: nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)


def _check(frames: Sequence[Frame]) -> int:
    """Their size on the disk. Raises ValueError."""
    if not frames:
        raise ValueError("no frames")
    for frame in frames:
        check_frame(frame.kind, frame.payload)
        if frame.kind == FrameKind.SEGMENT:
            raise ValueError("how segments follow each other is the writer's own to say")
    return sum(frame.size_bytes for frame in frames)


def _reason(error: OSError) -> Reason:
    return Reason.DISK_FULL if error.errno in _NO_ROOM else Reason.DISK_FAILED
