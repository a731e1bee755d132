"""The first frame of a segment, as it is read. How it comes back is in tests/properties."""

import orjson
import pytest

from app.audit.chain import GENESIS, ChainHead
from app.audit.spool.frames import FrameKind, encode
from app.audit.spool.payloads import PayloadUnreadable
from app.audit.spool.segment_start import (
    SegmentStart,
    decode_segment_start,
    encode_segment_start,
    follow,
    read_segment_start,
)
from app.audit.spool.segments import Position

START = SegmentStart("ab" * 16, Position(3, 700), ChainHead(9, bytes(range(32))), 8)
PAYLOAD = encode_segment_start(START)
FRAME = encode(FrameKind.SEGMENT, PAYLOAD)


def test_it_is_json() -> None:
    assert orjson.loads(PAYLOAD) == {
        "writer": "ab" * 16,
        "previous": [3, 700],
        "sequence": 9,
        "hash": bytes(range(32)).hex(),
        "checkpoint": 8,
    }


@pytest.mark.parametrize(
    "odd",
    [
        {"previous": [3]},
        {"previous": "ab"},
        {"previous": {}},
        {"sequence": None},
        {"sequence": -1},
        {"sequence": 2**63},
        {"hash": "ab"},
        {"hash": "no hash"},
        {"hash": 7},
        {"checkpoint": []},
    ],
)
def test_what_does_not_say_how_a_segment_follows_is_unreadable(odd: dict[str, object]) -> None:
    payload = orjson.dumps({**orjson.loads(PAYLOAD), **odd})
    with pytest.raises(PayloadUnreadable):
        decode_segment_start(payload)
    assert read_segment_start(encode(FrameKind.SEGMENT, payload)) is None
    assert follow(START.chain, FrameKind.SEGMENT, 1, payload) == START.chain


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{}", b"\xff"])
def test_what_is_no_object_is_unreadable(payload: bytes) -> None:
    with pytest.raises(PayloadUnreadable):
        decode_segment_start(payload)


def test_it_is_read_from_the_beginning_alone() -> None:
    assert read_segment_start(FRAME) == START
    assert read_segment_start(FRAME + b"whatever is behind") == START
    assert read_segment_start(FRAME[:-1]) is None
    assert read_segment_start(bytes(600)) is None
    assert read_segment_start(b"") is None
    assert read_segment_start(encode(FrameKind.INTENT, PAYLOAD)) is None
    assert read_segment_start(encode(FrameKind.INTENT, b"{}") + FRAME) is None


def test_a_reader_believes_where_a_segment_says_that_its_chain_begins() -> None:
    assert follow(GENESIS, FrameKind.SEGMENT, 1, PAYLOAD) == START.chain


@pytest.mark.parametrize("kind", [None, FrameKind.MESSAGE, FrameKind.BODY, FrameKind.CHUNK, 99])
def test_what_is_no_event_changes_nothing_of_a_chain(kind: int | None) -> None:
    assert follow(START.chain, kind, 1, b"payload") == START.chain
