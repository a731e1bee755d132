"""The chain of a spool's writer: of what is committed, and of nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.audit.chain import GENESIS, link
from app.audit.checkpoints.checkpoint import make_checkpoint
from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.segment_start import SegmentStart, decode_segment_start
from app.audit.spool.segments import Position, segment_path
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from tests.support.faulty_disk import GATE_SECONDS, FaultyDisk, Operation
from tests.support.spool_reading import chain_of, payloads, read_segment, read_spool

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 4096
FILLER = b"." * 800  # four to a segment
WRITER = "ab" * 16


def frame(payload: bytes) -> Frame:
    return Frame(FrameKind.INTENT, payload)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def writer(disk: FaultyDisk) -> AsyncIterator[SpoolWriter]:
    writer = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    yield writer
    await writer.close()
    assert disk.misused == []


async def test_events_are_chained_as_they_are_committed(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    assert writer.chain == GENESIS
    await writer.append([Frame(FrameKind.REGISTRATION, b"one"), Frame(FrameKind.MESSAGE, b"no")])
    await writer.append([Frame(FrameKind.CHUNK, b"no"), Frame(FrameKind.OUTCOME, b"two")])
    frames = [each for each in read_spool(disk, DIRECTORY) if each.payload in (b"one", b"two")]
    first = link(GENESIS, FrameKind.REGISTRATION, frames[0].at, b"one")
    assert writer.chain == link(first, FrameKind.OUTCOME, frames[1].at, b"two")
    assert writer.commit.chain == writer.chain
    assert writer.commit.position == writer.committed


async def test_each_segment_says_what_it_follows(writer: SpoolWriter, disk: FaultyDisk) -> None:
    for number in range(10):
        await writer.append([frame(b"%04d" % number + FILLER)])
    heads = chain_of(read_spool(disk, DIRECTORY))
    starts = [
        decode_segment_start(read_segment(disk, DIRECTORY, number)[0].payload)
        for number in (1, 2, 3)
    ]
    ends = [Position(number, writer.durable_end(number) or 0) for number in (1, 2)]
    assert starts == [
        SegmentStart(WRITER, None, GENESIS),
        SegmentStart(WRITER, ends[0], heads[4]),
        SegmentStart(WRITER, ends[1], heads[8]),
    ]


async def test_a_segment_says_what_the_last_checkpoint_states(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    await writer.append([frame(b"one" + FILLER)])
    keys = derived_signing_keys(b"pepper")
    checkpoint = make_checkpoint(keys, WRITER, writer.chain, at=0, previous=None, register=None)
    await writer.append([checkpoint.frame, Frame(FrameKind.CHECKPOINT, b"not one of ours")])
    assert writer.commit.checkpoint == 1
    for number in range(4):
        await writer.append([frame(b"%04d" % number + FILLER)])
    (first, *_) = read_segment(disk, DIRECTORY, 2)
    assert decode_segment_start(first.payload).checkpoint == 1


async def test_time_never_goes_back_within_a_writer(disk: FaultyDisk) -> None:
    clock = [0.0]
    writer = SpoolWriter(
        DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES, now=lambda: clock[0]
    )
    for seconds in (5.0, 7.25, 3.0, -1.0, 7.5):
        clock[0] = seconds
        await writer.append([frame(b"one")])
    written = [each.at for each in read_spool(disk, DIRECTORY) if each.kind == FrameKind.INTENT]
    assert written == [5_000_000, 7_250_000, 7_250_000, 7_250_000, 7_500_000]
    await writer.close()


async def test_a_chain_is_gone_on_with(disk: FaultyDisk) -> None:
    earlier = SpoolWriter(DIRECTORY, disk, writer=WRITER, segment_bytes=SEGMENT_BYTES)
    await earlier.append([frame(b"one")])
    await earlier.close()
    writer = SpoolWriter(
        DIRECTORY,
        disk,
        writer=WRITER,
        segment_bytes=SEGMENT_BYTES,
        continues=earlier.commit,
        now=lambda: 0.0,
    )
    assert writer.chain == earlier.chain
    await writer.append([frame(b"two")])
    await writer.close()
    frames = read_spool(disk, DIRECTORY)
    assert payloads(frames) == [b"one", b"two"]
    assert chain_of(frames)[-1] == writer.chain
    assert writer.chain.sequence == 2
    assert frames[-1].at == earlier.commit.at


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC])
async def test_a_segment_that_fails_changes_nothing_of_the_chain(
    writer: SpoolWriter, disk: FaultyDisk, operation: Operation
) -> None:
    await writer.append([frame(b"one")])
    disk.fail(operation, times=1)
    await writer.append([frame(b"two")])
    heads = chain_of(read_spool(disk, DIRECTORY))
    assert writer.chain == heads[-1]
    assert writer.chain.sequence == 2
    assert decode_segment_start(read_segment(disk, DIRECTORY, 2)[0].payload) == SegmentStart(
        WRITER, Position(1, writer.durable_end(1) or 0), heads[1]
    )


async def test_what_is_dropped_is_not_in_the_chain(writer: SpoolWriter, disk: FaultyDisk) -> None:
    """Of a group that fails only the essential part is written later."""
    await writer.append([frame(b"one")])
    with disk.hold_syncs() as at_sync:
        first = writer.submit([frame(b"two")])
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        dropped = writer.submit([frame(b"dropped")])
        kept = writer.submit([frame(b"kept")], essential=True)
        disk.fail(Operation.SYNC)
    await asyncio.wait([first, dropped, kept], timeout=GATE_SECONDS)
    chain = writer.chain
    disk.heal()
    await writer.close()
    assert chain.sequence == 1
    assert writer.chain.sequence == 2
    frames = read_spool(disk, DIRECTORY)
    assert payloads(frames) == [b"one", b"kept"]
    assert chain_of(frames)[-1] == writer.chain
    for refused in (first, dropped, kept):
        assert isinstance(refused.exception(), SpoolUnavailable)


async def test_what_is_given_up_with_nothing_in_it_is_followed_by_nothing(
    writer: SpoolWriter, disk: FaultyDisk
) -> None:
    disk.fail(Operation.WRITE, times=1)
    disk.fail(Operation.REMOVE, times=1)  # what was written in part stays
    await writer.append([frame(b"one")])
    assert segment_path(DIRECTORY, 1) in disk.list(DIRECTORY)
    (first, *_) = read_segment(disk, DIRECTORY, 2)
    assert decode_segment_start(first.payload) == SegmentStart(WRITER)
