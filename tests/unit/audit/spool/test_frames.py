"""The frames of a spool segment, byte by byte. Their laws are in tests/properties."""

import struct
import zlib

import pytest

from app.audit.spool.frames import (
    CHAINED,
    MAX_PAYLOAD_BYTES,
    SHIPPED,
    Frame,
    FrameKind,
    FrameReader,
    encode,
)

INTENT = encode(FrameKind.INTENT, b'{"a":1}', at=3)
OUTCOME = encode(FrameKind.OUTCOME, b'{"b":2}', at=2**64 - 1)


def test_a_frame_is_a_length_a_checksum_a_kind_a_time_and_a_payload() -> None:
    checksum = zlib.crc32(b"\x02" + struct.pack("<Q", 5) + b"payload")
    frame = struct.pack("<IIBQ", 7, checksum, 2, 5) + b"payload"
    assert encode(FrameKind.OUTCOME, b"payload", at=5) == frame


def test_kinds_keep_their_numbers() -> None:
    assert {kind.name: kind.value for kind in FrameKind} == {
        "INTENT": 1,
        "OUTCOME": 2,
        "MESSAGE": 3,
        "BODY": 4,
        "CHUNK": 5,
        "CHECKPOINT": 6,
        "REGISTRATION": 7,
        "ERASURE": 8,
        "RETENTION": 9,
        "SEGMENT": 10,
    }


def test_events_are_chained_and_text_is_only_shipped() -> None:
    assert {1, 2, 6, 7, 8, 9} == CHAINED
    assert CHAINED | {3} == SHIPPED


def test_reads_what_was_written() -> None:
    reader = FrameReader()
    assert reader.feed(INTENT + OUTCOME) == [
        Frame(FrameKind.INTENT, b'{"a":1}', 3),
        Frame(FrameKind.OUTCOME, b'{"b":2}', 2**64 - 1),
    ]
    assert reader.consumed == len(INTENT + OUTCOME)
    assert not reader.damaged


def test_an_empty_payload_is_a_frame() -> None:
    assert FrameReader().feed(encode(FrameKind.INTENT, b"")) == [Frame(FrameKind.INTENT, b"")]


def test_half_a_frame_is_waited_for() -> None:
    reader = FrameReader()
    assert reader.feed(INTENT + OUTCOME[:-1]) == [Frame(FrameKind.INTENT, b'{"a":1}', 3)]
    assert (reader.consumed, reader.damaged) == (len(INTENT), False)
    assert reader.feed(OUTCOME[-1:]) == [Frame(FrameKind.OUTCOME, b'{"b":2}', 2**64 - 1)]
    assert reader.consumed == len(INTENT + OUTCOME)


def test_zeros_are_the_end_and_no_damage() -> None:
    reader = FrameReader()
    assert len(reader.feed(INTENT + bytes(100))) == 1
    assert reader.feed(bytes(1000)) == []
    assert (reader.consumed, reader.damaged) == (len(INTENT), False)


def test_fewer_zeros_than_a_header_are_no_damage() -> None:
    reader = FrameReader()
    reader.feed(INTENT + bytes(3))
    assert (reader.consumed, reader.damaged) == (len(INTENT), False)


@pytest.mark.parametrize("cut", range(3))
def test_anything_behind_the_zeros_is_damage_and_no_frame(cut: int) -> None:
    """Sectors reach a disk in any order: what is behind was not written whole."""
    pieces = [[bytes(512) + INTENT], [bytes(512), INTENT], [bytes(4), bytes(508) + INTENT]][cut]
    reader = FrameReader()
    assert [frame for piece in pieces for frame in reader.feed(piece)] == []
    assert (reader.consumed, reader.damaged) == (0, True)


def test_nothing_is_read_behind_damage() -> None:
    """Not even what looks like a frame: a payload holds what strangers wrote."""
    torn = encode(FrameKind.INTENT, b"x" * 100 + OUTCOME)
    reader = FrameReader()
    assert reader.feed(INTENT + torn[:4] + b"\xff" + torn[5:] + OUTCOME) == [
        Frame(FrameKind.INTENT, b'{"a":1}', 3)
    ]
    assert (reader.consumed, reader.damaged) == (len(INTENT), True)
    assert reader.feed(OUTCOME) == []


@pytest.mark.parametrize("place", range(4, 17))
def test_kind_and_time_are_under_the_checksum(place: int) -> None:
    reader = FrameReader()
    changed = bytes((INTENT[place] ^ 1,))
    assert reader.feed(INTENT[:place] + changed + INTENT[place + 1 :]) == []
    assert reader.damaged


def test_a_length_that_cannot_be_is_damage_at_once() -> None:
    """Or a reader would gather what follows for nothing, to the end of the segment."""
    reader = FrameReader()
    reader.feed(struct.pack("<IIBQ", MAX_PAYLOAD_BYTES + 1, 1, 1, 1))
    assert reader.damaged


def test_a_newer_versions_kind_is_passed_on() -> None:
    reader = FrameReader()
    assert reader.feed(encode(99, b"body") + INTENT) == [
        Frame(99, b"body"),
        Frame(FrameKind.INTENT, b'{"a":1}', 3),
    ]


@pytest.mark.parametrize("kind", [0, 256, -1])
def test_what_is_no_kind_is_not_written(kind: int) -> None:
    with pytest.raises(ValueError, match="kind"):
        encode(kind, b"")


def test_the_largest_payload_is_read_back_and_one_byte_more_is_not_written() -> None:
    largest = bytes(MAX_PAYLOAD_BYTES)
    frame = encode(FrameKind.INTENT, largest)
    reader = FrameReader()
    assert reader.feed(frame[:1000]) == []
    assert reader.feed(frame[1000:]) == [Frame(FrameKind.INTENT, largest)]
    with pytest.raises(ValueError, match="are allowed"):
        encode(FrameKind.INTENT, largest + b"\0")
