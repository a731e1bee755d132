"""The chain of a dead writer: it goes on where it was, and is closed once."""

from pathlib import Path

import pytest

from app.audit.chain import GENESIS, ChainHead
from app.audit.checkpoints.checkpoint import Checkpoint, make_checkpoint, parse_checkpoint
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.recovery import Recovered, recover
from app.audit.spool.segments import list_segments, segment_path
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.spool_life import answer_of, closing, intent_frame, keys, outcome_frame
from tests.support.spool_reading import read_spool
from tests.support.spooled import read_records, read_segments

SEGMENT_BYTES = 4096
DISK = RealDisk()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / ("ab" * 16)
    path.mkdir()
    return path


async def a_life(directory: Path, *frames: Frame, disk: Disk = DISK) -> SpoolWriter:
    """It has appended each by itself."""
    writer = SpoolWriter(
        directory, disk, writer=directory.name, segment_bytes=SEGMENT_BYTES, reserve_segments=0
    )
    for frame in frames:
        await writer.append([frame], essential=True)
    await writer.close()
    return writer


async def recovered(directory: Path, disk: Disk = DISK) -> Recovered:
    return await recover(directory, disk, answer_of=answer_of, closing=closing)


def checkpoints(directory: Path) -> list[Checkpoint]:
    return [parse_checkpoint(payload) for payload in read_records(directory).checkpoints]


def heads(directory: Path) -> list[ChainHead]:
    return read_records(directory).chain


def checkpoint_at(writer: str, head: ChainHead, *, closed: bool = False) -> Frame:
    return make_checkpoint(
        keys, writer, head, at=0.0, previous=None, register=None, closed=closed
    ).frame


async def test_it_goes_on_where_it_was_and_is_closed(directory: Path) -> None:
    writer = await a_life(directory, intent_frame("a"), intent_frame("b"), outcome_frame("a"))
    result = await recovered(directory)
    chain = heads(directory)
    assert chain[3] == writer.chain
    assert [head.sequence for head in chain] == [0, 1, 2, 3, 4, 5]
    assert result.chain == chain[-1]
    (checkpoint,) = checkpoints(directory)
    assert checkpoint.closed
    assert checkpoint.is_signed()
    assert checkpoint.head == chain[4]
    assert checkpoint.writer == directory.name
    assert checkpoint.previous is None


async def test_it_is_closed_once_however_often_it_is_recovered(directory: Path) -> None:
    await a_life(directory, intent_frame("a"))
    first = await recovered(directory)
    before = read_segments(directory)
    again = await recovered(directory)
    assert again == Recovered(records=2, chain=first.chain)
    assert read_segments(directory) == before


async def test_a_closing_that_was_there_is_told_of(directory: Path) -> None:
    """Whoever closed the chain may have been killed before the second place had it."""
    await a_life(directory, intent_frame("a"))
    told: list[Checkpoint] = []
    for _ in range(2):
        await recover(directory, DISK, answer_of=answer_of, closing=closing, closed=told.append)
    assert told == checkpoints(directory)


async def test_a_chain_that_its_writer_has_closed_is_left_as_it_is(directory: Path) -> None:
    frames = [intent_frame("a"), outcome_frame("a")]
    writer = await a_life(directory, *frames)
    end = checkpoint_at(directory.name, writer.chain, closed=True)
    for number in list_segments(DISK, directory):
        segment_path(directory, number).unlink()
    await a_life(directory, *frames, end)
    before = read_segments(directory)
    await recovered(directory)
    assert read_segments(directory) == before


async def test_what_is_ended_behind_a_closing_is_closed_again(directory: Path) -> None:
    """Its writer was cut off in its drain."""
    end = checkpoint_at(directory.name, ChainHead(1, bytes(32)), closed=True)
    await a_life(directory, intent_frame("a"), end)
    await recovered(directory)
    assert [checkpoint.closed for checkpoint in checkpoints(directory)] == [True, True]
    assert checkpoints(directory)[-1].head == heads(directory)[-2]


async def test_a_chain_that_ends_with_an_ordinary_checkpoint_is_closed(directory: Path) -> None:
    ordinary = checkpoint_at(directory.name, ChainHead(7, bytes(32)))
    await a_life(directory, intent_frame("a"), outcome_frame("a"), ordinary)
    await recovered(directory)
    last = checkpoints(directory)[-1]
    assert last.closed
    assert last.previous == 7


async def test_what_never_had_an_event_is_not_closed(directory: Path) -> None:
    await a_life(directory)
    assert await recovered(directory) == Recovered()
    await a_life(directory, Frame(99, b"no event"))
    assert await recovered(directory) == Recovered()
    assert heads(directory) == [GENESIS]


async def test_it_goes_on_though_its_first_segments_were_shipped_and_removed(
    directory: Path,
) -> None:
    padding = [Frame(FrameKind.CHUNK, b"." * 2000) for _ in range(8)]
    checkpoint = checkpoint_at(directory.name, ChainHead(1, bytes(32)))
    writer = await a_life(
        directory, intent_frame("a"), outcome_frame("a"), checkpoint, *padding, intent_frame("b")
    )
    for number in list_segments(DISK, directory)[:-1]:
        segment_path(directory, number).unlink()
    result = await recovered(directory)
    # The outcome and the closing.
    assert result.chain.sequence == writer.chain.sequence + 2 == 6
    (last,) = checkpoints(directory)
    assert last.sequence == 5
    assert last.previous == 1  # though that checkpoint is not here any more


async def test_what_was_given_up_is_no_part_of_it(directory: Path) -> None:
    disk = FaultyDisk(RealDisk())
    writer = SpoolWriter(
        directory, disk, writer=directory.name, segment_bytes=SEGMENT_BYTES, reserve_segments=0
    )
    await writer.append([intent_frame("a")])
    disk.fail(Operation.SYNC, times=1)
    await writer.append([outcome_frame("a")], essential=True)
    await writer.close()
    result = await recovered(directory)
    assert result.records == 2
    assert heads(directory)[2] == writer.chain
    assert result.chain == heads(directory)[-1] == ChainHead(3, result.chain.hash)


async def test_a_torn_end_is_told_and_the_chain_goes_on_before_it(directory: Path) -> None:
    writer = await a_life(directory, intent_frame("a"), outcome_frame("a"))
    (number,) = list_segments(DISK, directory)
    path = segment_path(directory, number)
    end = writer.committed.offset
    path.write_bytes(path.read_bytes()[:end] + b"torn" + bytes(100))
    for _ in range(2):
        result = await recovered(directory)
        assert result.damaged == [(number, end)]
        assert result.chain == heads(directory)[-1]
    assert heads(directory)[2] == writer.chain
    assert len(checkpoints(directory)) == 1


async def test_time_does_not_go_back_where_it_goes_on(directory: Path) -> None:
    await a_life(directory, intent_frame("a"))
    await recover(directory, DISK, answer_of=answer_of, closing=closing, now=lambda: 0.0)
    times = [frame.at for frame in read_spool(DISK, directory)]
    assert times == sorted(times)
    assert times[0] > 0


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC, Operation.CREATE])
async def test_a_disk_that_fails_before_the_closing_closes_it_later(
    directory: Path, operation: Operation
) -> None:
    await a_life(directory, intent_frame("a"), outcome_frame("a"))
    disk = FaultyDisk(RealDisk())
    disk.fail(operation)
    with pytest.raises(SpoolUnavailable):
        await recovered(directory, disk)
    disk.heal()
    await recovered(directory, disk)
    assert [checkpoint.closed for checkpoint in checkpoints(directory)] == [True]
    assert disk.misused == []
