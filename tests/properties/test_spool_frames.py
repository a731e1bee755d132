"""However a segment is cut, torn or corrupted: what is read is a beginning of what was written."""

from hypothesis import given
from hypothesis import strategies as st

from app.audit.spool.frames import Frame, FrameKind, FrameReader, encode
from tests.properties.cutting import cut, cuts

SECTOR_BYTES = 64  # small, so that a few frames have many

# Of frames within frames too: a payload may look like what surrounds it.
payloads = st.binary(max_size=200) | st.builds(
    encode, st.sampled_from(FrameKind), st.binary(max_size=40)
)
times = st.integers(0, 2**64 - 1)
frames = st.lists(st.builds(Frame, st.sampled_from(FrameKind), payloads, times), max_size=8)
padding = st.integers(0, 2 * SECTOR_BYTES)


def segment(written: list[Frame], zeros: int) -> bytes:
    return b"".join(encode(frame.kind, frame.payload, frame.at) for frame in written) + bytes(zeros)


def read(pieces: list[bytes]) -> tuple[list[Frame], FrameReader]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)], reader


def assert_is_beginning(found: list[Frame], written: list[Frame], reader: FrameReader) -> None:
    assert found == written[: len(found)]
    assert reader.consumed == len(segment(found, 0))


@given(frames, padding, cuts)
def test_cutting_changes_nothing(written: list[Frame], zeros: int, at: list[int]) -> None:
    found, reader = read(cut(segment(written, zeros), at))
    assert found == written
    assert reader.consumed == len(segment(written, 0))
    assert not reader.damaged


@given(frames, padding, st.integers(0, 2000))
def test_a_torn_end_leaves_the_whole_frames_before_it(
    written: list[Frame], zeros: int, end: int
) -> None:
    data = segment(written, 0)[:end]
    found, reader = read([data + bytes(zeros)])
    assert_is_beginning(found, written, reader)
    whole = next((n for n in range(len(written)) if len(segment(written[: n + 1], 0)) > end), None)
    # The zeros may be what a frame's own end was.
    assert len(found) >= (len(written) if whole is None else whole)


@given(frames, padding, cuts, st.data())
def test_a_changed_byte_ends_it_there(
    written: list[Frame], zeros: int, at: list[int], data: st.DataObject
) -> None:
    intact = segment(written, zeros)
    if not intact:
        return
    place = data.draw(st.integers(0, len(intact) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(intact)
    changed[place] ^= flip
    found, reader = read(cut(bytes(changed), at))
    assert_is_beginning(found, written, reader)
    assert reader.consumed <= place


@given(frames, st.lists(st.booleans(), max_size=40), padding)
def test_sectors_that_never_came_end_it_there(
    written: list[Frame], kept: list[bool], zeros: int
) -> None:
    """After a power failure: of what was not synced, any sector may be there or not."""
    torn = bytearray(segment(written, zeros))
    for index, there in enumerate(kept):
        if not there:
            sector = torn[index * SECTOR_BYTES : (index + 1) * SECTOR_BYTES]
            torn[index * SECTOR_BYTES : (index + 1) * SECTOR_BYTES] = bytes(len(sector))
    found, reader = read([bytes(torn)])
    assert_is_beginning(found, written, reader)


@given(st.binary(max_size=500), cuts)
def test_noise_is_no_frame(noise: bytes, at: list[int]) -> None:
    found, reader = read(cut(noise, at))
    assert found == []
    assert reader.consumed == 0
