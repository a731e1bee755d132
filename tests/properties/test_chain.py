"""A chain's head commits to every bit of every event, to their order and to their number."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from app.audit.chain import GENESIS, HASH_BYTES, ChainHead, link
from app.audit.spool.commit import BEGINNING, lay_out
from app.audit.spool.frames import CHAINED, Frame, FrameKind, FrameReader
from app.audit.spool.segment_start import (
    SegmentStart,
    decode_segment_start,
    encode_segment_start,
    follow,
)
from app.audit.spool.segments import START_BYTES, Position

WRITERS = ("a" * 32, "b" * 32)
MAX_TIME = 2**64 - 1
MAX_NUMBER = 2**63 - 1

chained = st.sampled_from(sorted(CHAINED))
times = st.integers(0, MAX_TIME)
events = st.lists(st.builds(Frame, chained, st.binary(max_size=40), times), min_size=1, max_size=8)
frames = st.lists(
    st.builds(
        Frame,
        st.sampled_from([kind for kind in FrameKind if kind != FrameKind.SEGMENT]),
        st.binary(max_size=40),
    ),
    max_size=8,
)
heads = st.builds(
    ChainHead, st.integers(0, MAX_NUMBER), st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)
)
positions = st.builds(Position, st.integers(1, MAX_NUMBER), st.integers(1, MAX_NUMBER))


def head_of(linked: list[Frame], head: ChainHead = GENESIS) -> ChainHead:
    for event in linked:
        head = link(head, event.kind, event.at, event.payload)
    return head


def read_head(data: bytes) -> ChainHead:
    head = GENESIS
    for frame in FrameReader().feed(data):
        head = follow(head, frame.kind, frame.at, frame.payload)
    return head


@given(events, st.data())
def test_a_changed_bit_changes_the_head(linked: list[Frame], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(linked) - 1))
    event = linked[place]
    field = data.draw(st.sampled_from(["kind", "at", "payload"]))
    if field == "payload":
        assume(event.payload)
        bit = data.draw(st.integers(0, 8 * len(event.payload) - 1))
        number = int.from_bytes(event.payload, "big") ^ (1 << bit)
        changed = replace(event, payload=number.to_bytes(len(event.payload), "big"))
    elif field == "at":
        changed = replace(event, at=event.at ^ (1 << data.draw(st.integers(0, 63))))
    else:
        changed = replace(event, kind=data.draw(chained.filter(lambda kind: kind != event.kind)))
    after = head_of([*linked[:place], changed, *linked[place + 1 :]])
    assert after.sequence == len(linked)
    assert after.hash != head_of(linked).hash


@given(events, events)
def test_other_events_make_another_head(first: list[Frame], second: list[Frame]) -> None:
    """Dropped, added, moved or cut anew between two: whatever makes a difference, shows."""
    assert (head_of(first).hash == head_of(second).hash) == (first == second)


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 20))
def test_no_payload_can_pass_for_another_event(before: bytes, payload: bytes, cut: int) -> None:
    """A client that writes into one payload cannot make up for what is taken from another."""
    whole = before + payload
    assume(whole[:cut] != before)
    first = [Frame(FrameKind.INTENT, before), Frame(FrameKind.OUTCOME, payload)]
    second = [Frame(FrameKind.INTENT, whole[:cut]), Frame(FrameKind.OUTCOME, whole[cut:])]
    assert head_of(first) != head_of(second)


@given(events, events)
def test_two_writers_never_share_a_chain(first: list[Frame], second: list[Frame]) -> None:
    """The first event of each says whose it is."""
    seen = []
    for writer, linked in zip(WRITERS, (first, second), strict=True):
        registration = Frame(FrameKind.REGISTRATION, writer.encode())
        head = head_of([registration])
        seen.append({head.hash} | {(head := head_of([event], head)).hash for event in linked})
    assert seen[0].isdisjoint(seen[1])


@given(frames, frames, st.integers(0, MAX_TIME), st.integers(0, MAX_TIME), st.booleans())
def test_whoever_reads_what_is_laid_out_comes_to_the_same_head(
    first: list[Frame], second: list[Frame], at: int, later: int, new_segment: bool
) -> None:
    data, commit = lay_out(WRITERS[0], BEGINNING, first, at, begun=False)
    commit = commit.at_position(Position(1, len(data)))
    more, after = lay_out(WRITERS[0], commit, second, later, begun=not new_segment)
    assert read_head(data) == commit.chain
    assert read_head(data + more) == after.chain
    if new_segment:  # it says itself where it begins
        assert read_head(more) == after.chain
    written = FrameReader().feed(data + more)
    assert [frame.at for frame in written] == sorted(frame.at for frame in written)


@given(
    st.sampled_from(WRITERS),
    st.none() | positions,
    heads,
    st.none() | st.integers(0, MAX_NUMBER),
)
def test_a_segments_beginning_comes_back_as_it_was_and_has_its_room(
    writer: str, previous: Position | None, chain: ChainHead, checkpoint: int | None
) -> None:
    start = SegmentStart(writer, previous, chain, checkpoint)
    payload = encode_segment_start(start)
    assert decode_segment_start(payload) == start
    assert Frame(FrameKind.SEGMENT, payload).size_bytes <= START_BYTES
