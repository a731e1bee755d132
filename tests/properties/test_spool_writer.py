"""Whatever a disk does, and wherever the power fails: what was acknowledged is read back, once and
in order, and nothing is read that was not appended. And whoever reads it comes to the same chain.
"""

import asyncio
import errno
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from app.audit.chain import GENESIS, ChainHead
from app.audit.spool.cursor import Committed, SpoolCursor, WriterGone
from app.audit.spool.disk import Disk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.segment_start import follow
from app.audit.spool.writer import SpoolUnavailable, SpoolWriter
from tests.support.faulty_disk import GATE_SECONDS, FaultyDisk, Operation
from tests.support.memory_disk import MemoryDisk

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 2048
LARGE_BYTES = 600  # twice so much, in two frames, may have no room in a segment
RETRY_SECONDS = 0.001
AMPLE_BYTES = 1 << 30
WRITER = "ab" * 16


@dataclass(frozen=True)
class Append:
    """At once. `cancelled` of them are cancelled while they wait."""

    sizes: list[int]
    essential: int  # so many of them, the first
    cancelled: int  # the last


@dataclass(frozen=True)
class Fail:
    operation: Operation
    error_number: int
    times: int


@dataclass(frozen=True)
class Room:
    """Left on the disk, in segments."""

    segments: int


class Heal:
    pass


Step = Append | Fail | Room | Heal

steps = st.lists(
    st.builds(
        Append,
        # Some are larger than a segment.
        st.lists(
            st.integers(0, LARGE_BYTES) | st.integers(0, SEGMENT_BYTES + SEGMENT_BYTES // 4),
            min_size=1,
            max_size=12,
        ),
        st.integers(0, 12),
        st.integers(0, 3),
    )
    | st.builds(
        Fail,
        st.sampled_from(
            [
                Operation.WRITE,
                Operation.SYNC,
                Operation.CREATE,
                Operation.RENAME,
                Operation.SYNC_DIRECTORY,
            ]
        ),
        st.sampled_from([errno.EIO, errno.ENOSPC]),
        st.integers(1, 6),
    )
    | st.builds(Room, st.integers(0, 3))
    | st.builds(Heal),
    max_size=15,
)


@dataclass
class Run:
    """One spool and what its user knows of it."""

    memory: MemoryDisk = field(default_factory=lambda: MemoryDisk(AMPLE_BYTES))
    appended: list[bytes] = field(default_factory=list)
    acknowledged: set[bytes] = field(default_factory=set)
    heads: list[ChainHead] = field(default_factory=list)  # as it was told, in order

    def __post_init__(self) -> None:
        self.disk = FaultyDisk(self.memory)
        self.writer = SpoolWriter(
            DIRECTORY,
            self.disk,
            writer=WRITER,
            segment_bytes=SEGMENT_BYTES,
            retry_seconds=RETRY_SECONDS,
        )

    async def take(self, step: Step) -> None:
        match step:
            case Append():
                await self.append(step)
            case Fail():
                self.disk.fail(step.operation, step.error_number, times=step.times)
            case Room():
                free = self.memory.free_bytes(DIRECTORY)
                self.memory.capacity_bytes += step.segments * SEGMENT_BYTES - free
            case Heal():
                await self.heal()

    async def append(self, step: Append) -> None:
        appends = []
        for index, size in enumerate(step.sizes):
            record = b"%06d" % len(self.appended) + b"." * size
            self.appended.append(record)
            appends.append(
                asyncio.ensure_future(self.append_one(record, essential=index < step.essential))
            )
        await asyncio.sleep(0)
        for append in appends[len(appends) - min(step.cancelled, len(appends)) :]:
            append.cancel()
        await asyncio.gather(*appends, return_exceptions=True)

    async def append_one(self, record: bytes, *, essential: bool) -> None:
        message = Frame(FrameKind.MESSAGE, record)  # beside the event, and not in the chain
        try:
            await self.writer.append(
                [Frame(FrameKind.INTENT, record), message], essential=essential
            )
        except SpoolUnavailable:
            return
        self.acknowledged.add(record)
        self.heads.append(self.writer.chain)

    async def heal(self) -> None:
        self.disk.heal()
        self.memory.capacity_bytes = AMPLE_BYTES
        async with asyncio.timeout(30):
            while not self.writer.accepting:  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0)

    def shipped(self) -> list[bytes]:
        """What the shipper of this writer would read."""
        chain = None
        while chain != self.writer.chain:  # its thread may have written on meanwhile
            chain = self.writer.chain
            records, heads = read(self.disk, self.writer)
        assert heads[-1] == chain
        assert set(self.heads) <= set(heads)
        return records


def read(disk: Disk, committed: Committed) -> tuple[list[bytes], list[ChainHead]]:
    """The events of a spool, and all the heads of its chain."""
    cursor = SpoolCursor(DIRECTORY, disk, committed)
    records, heads = [], [GENESIS]
    while more := cursor.read():
        for found in more:
            head = follow(heads[-1], found.kind, found.at, found.payload)
            if found.kind == FrameKind.INTENT:
                records.append(found.payload)
                heads.append(head)
            assert head == heads[-1]  # a segment says what was read of those before
    return records, heads


def assert_in_order(found: list[bytes], appended: list[bytes]) -> None:
    """Each once, and nothing else. In order, but for those that had to wait for a segment of their
    own size."""
    assert len(set(found)) == len(found)
    places = {record: place for place, record in enumerate(appended)}
    order = [places[record] for record in found if len(record) < LARGE_BYTES]
    assert order == sorted(order)


async def run_through(script: list[Step], lost_sectors: Random) -> None:
    run = Run()
    for step in script:
        await run.take(step)
        assert_in_order(shipped := run.shipped(), run.appended)
        assert run.acknowledged <= set(shipped)
    await run.heal()

    with run.disk.hold_syncs() as at_sync:
        last = asyncio.ensure_future(run.append(Append([300] * 5, essential=0, cancelled=0)))
        await asyncio.to_thread(at_sync.wait, GATE_SECONDS)
        after = run.memory.fail_power(lost_sectors)
        known, told = set(run.acknowledged), set(run.heads)
    await last
    await run.writer.close()

    found, heads = read(after, WriterGone())
    assert known <= set(found) <= set(run.appended)
    assert_in_order(found, run.appended)
    assert told <= set(heads)
    assert run.disk.misused == []
    assert run.writer.waiting_bytes == 0


@settings(deadline=None)  # the disk's thread has its own time
@given(steps, st.integers(0, 2**32 - 1))
def test_what_was_acknowledged_is_read_back(script: list[Step], seed: int) -> None:
    asyncio.run(run_through(script, Random(seed)))
