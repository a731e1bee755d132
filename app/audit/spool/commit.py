"""What a spool's writer puts on the disk at once: bytes, and the chain that they go on with."""

from collections.abc import Sequence
from typing import NamedTuple

from app.audit.chain import GENESIS, ChainHead, link
from app.audit.checkpoints.checkpoint import CheckpointUnreadable, parse_checkpoint
from app.audit.spool.frames import CHAINED, Frame, FrameKind, header
from app.audit.spool.segment_start import SegmentStart, encode_segment_start
from app.audit.spool.segments import Position


class Commit(NamedTuple):
    """All that is durable of a writer: up to where it goes, its chain, when its last frame was
    written in microseconds since the epoch, and the sequence that its last checkpoint states."""

    position: Position
    chain: ChainHead
    at: int
    checkpoint: int | None

    def at_position(self, position: Position) -> "Commit":
        return self._replace(position=position)


BEGINNING = Commit(Position(0, 0), GENESIS, 0, None)


def lay_out(
    writer: str, before: Commit, frames: Sequence[Frame], at: int, *, begun: bool
) -> tuple[bytes, Commit]:
    """The bytes of those frames in a segment, and the commit that they make behind `before`, still
    at its position. A segment that is not `begun` first says how it follows. Time never goes back
    within a writer, whatever a clock does."""
    at = max(at, before.at)
    chain, checkpoint = before.chain, before.checkpoint
    parts: list[bytes] = []
    if not begun:
        previous = before.position if before.position.offset else None
        start = encode_segment_start(SegmentStart(writer, previous, chain, checkpoint))
        parts += (header(FrameKind.SEGMENT, start, at), start)
    for frame in frames:
        parts += (header(frame.kind, frame.payload, at), frame.payload)
        if frame.kind in CHAINED:
            chain = link(chain, frame.kind, at, frame.payload)
            if frame.kind == FrameKind.CHECKPOINT:
                checkpoint = stated_sequence(frame.payload, checkpoint)
    return b"".join(parts), Commit(before.position, chain, at, checkpoint)


def stated_sequence(payload: bytes, before: int | None) -> int | None:
    """What a checkpoint states; `before`, where it is none that we can read."""
    try:
        return parse_checkpoint(payload).sequence
    except CheckpointUnreadable:
        return before
