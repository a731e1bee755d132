"""The first frame of a segment: how it follows the segments before it.

A process that has died leaves no other word on how far each of its segments was durable. What
stands behind that was not acknowledged there: it was written again to a later one, or refused.
"""

from dataclasses import dataclass

import orjson

from app.audit.chain import GENESIS, HASH_BYTES, MAX_SEQUENCE, ChainHead, link
from app.audit.spool.frames import CHAINED, FrameKind, FrameReader
from app.audit.spool.payloads import PayloadUnreadable
from app.audit.spool.segments import START_BYTES, Position


@dataclass(frozen=True, slots=True)
class SegmentStart:
    """`previous`: the last segment before that holds something, and the end of that. `chain`: of
    all that it holds. `checkpoint`: the sequence that the last checkpoint in it states."""

    writer: str
    previous: Position | None = None
    chain: ChainHead = GENESIS
    checkpoint: int | None = None


def encode_segment_start(start: SegmentStart) -> bytes:
    return orjson.dumps(
        {
            "writer": start.writer,
            "previous": None if start.previous is None else list(start.previous),
            "sequence": start.chain.sequence,
            "hash": start.chain.hash.hex(),
            "checkpoint": start.checkpoint,
        }
    )


def decode_segment_start(payload: bytes) -> SegmentStart:
    """Raises PayloadUnreadable."""
    try:
        values = orjson.loads(payload)
        previous, checkpoint = values["previous"], values["checkpoint"]
        chain = ChainHead(int(values["sequence"]), bytes.fromhex(values["hash"]))
        if len(chain.hash) != HASH_BYTES or not 0 <= chain.sequence <= MAX_SEQUENCE:
            raise ValueError("no head of a chain")
        return SegmentStart(
            str(values["writer"]),
            None if previous is None else Position(int(previous[0]), int(previous[1])),
            chain,
            None if checkpoint is None else int(checkpoint),
        )
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise PayloadUnreadable(f"no start of a segment: {error}") from error


def read_segment_start(beginning: bytes) -> SegmentStart | None:
    """What the first START_BYTES of a segment say; None where they do not."""
    for frame in FrameReader().feed(beginning[:START_BYTES])[:1]:
        if frame.kind == FrameKind.SEGMENT:
            try:
                return decode_segment_start(frame.payload)
            except PayloadUnreadable:
                return None
    return None


def follow(chain: ChainHead, kind: int | None, at: int, payload: bytes) -> ChainHead:
    """The chain of whoever reads a spool, after one thing more that was found there, in order. At
    the start of a segment it is what that says: there may have been others before, that are gone.
    """
    if kind is None:
        return chain
    if kind in CHAINED:
        return link(chain, kind, at, payload)
    if kind == FrameKind.SEGMENT:
        try:
            return decode_segment_start(payload).chain
        except PayloadUnreadable:
            return chain
    return chain
