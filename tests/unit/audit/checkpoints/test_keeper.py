"""When a checkpoint is made, what it states, and that neither place stops the other."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.audit.chain import GENESIS, ChainHead
from app.audit.checkpoints.checkpoint import Checkpoint, parse_checkpoint
from app.audit.checkpoints.keeper import (
    POLL_SECONDS,
    CheckpointKeeper,
    closed_again,
    closing_frames,
)
from app.audit.checkpoints.publisher import PlaceFailed, Publisher
from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.segment_start import follow
from app.audit.spool.writer import SpoolWriter
from app.telemetry.metrics import Metrics
from tests.support.conditions import eventually
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.spool_reading import read_spool

WRITER = "ab" * 16
DIRECTORY = Path("/spool") / WRITER
KEYS = derived_signing_keys(b"pepper")
NOW = 1_700_000_000.0
RECORDS, SECONDS = 5, 10.0
DEADLINE_SECONDS = 20.0


def ignored(checkpoint: Checkpoint) -> None:
    pass


class MemoryPlace:
    """Implements Place; `away` makes it fail."""

    name = "file"

    def __init__(self) -> None:
        self.published: list[Checkpoint] = []
        self.away = False
        self.closed = False

    def publish(self, checkpoint: Checkpoint) -> None:
        if self.away:
            raise PlaceFailed("away")
        self.published.append(checkpoint)

    def close(self) -> None:
        self.closed = True


class Keeping:
    """A keeper whose time is a test's."""

    def __init__(self, disk: FaultyDisk) -> None:
        self.disk = disk
        self.place = MemoryPlace()
        self.registry = CollectorRegistry()
        self.time = 0.0
        self.register: tuple[int, bytes] | None = None
        metrics = Metrics(self.registry)
        self.writer = SpoolWriter(
            DIRECTORY, disk, writer=WRITER, segment_bytes=64 * 1024, retry_seconds=0.001
        )
        self.publisher = Publisher(
            self.place, metrics, first_retry_seconds=0.001, clock=lambda: self.time
        )
        self.keeper = CheckpointKeeper(
            self.writer,
            KEYS,
            self.publisher,
            records=RECORDS,
            seconds=SECONDS,
            register=lambda: self.register,
            metrics=metrics,
            clock=lambda: self.time,
            now=lambda: NOW,
        )

    async def append(self, count: int) -> None:
        await self.writer.append([Frame(FrameKind.INTENT, b"{}")] * count)

    def counted(self, name: str, place: str) -> float | None:
        return self.registry.get_sample_value(f"gateway_{name}_total", {"place": place})

    async def published(self, count: int) -> list[Checkpoint]:
        await eventually(
            lambda: len(self.place.published) >= count, DEADLINE_SECONDS, f"{count} published"
        )
        return self.place.published


@pytest.fixture
async def keeping() -> AsyncIterator[Keeping]:
    keeping = Keeping(FaultyDisk())
    yield keeping
    await keeping.publisher.close(DEADLINE_SECONDS)
    await keeping.writer.close()


def chain_of(disk: FaultyDisk) -> tuple[ChainHead, list[tuple[int, Checkpoint]]]:
    """As a reader of the spool sees it: its end, and its checkpoints with their numbers."""
    head, checkpoints = GENESIS, []
    for frame in read_spool(disk, DIRECTORY):
        head = follow(head, frame.kind, frame.at, frame.payload)
        if frame.kind == FrameKind.CHECKPOINT:
            checkpoints.append((head.sequence, parse_checkpoint(frame.payload)))
    return head, checkpoints


async def test_one_is_due_after_so_many_events(keeping: Keeping) -> None:
    await keeping.append(RECORDS - 1)
    assert not keeping.keeper.is_due()
    await keeping.append(1)
    assert keeping.keeper.is_due()
    keeping.keeper.keep()
    assert not keeping.keeper.is_due()


async def test_one_is_due_after_so_many_seconds_also_when_nothing_happens(keeping: Keeping) -> None:
    assert not keeping.keeper.is_due()
    keeping.time = SECONDS
    assert keeping.keeper.is_due()
    keeping.keeper.keep()
    assert not keeping.keeper.is_due()


async def test_it_states_the_chain_as_it_was_and_stands_in_it(keeping: Keeping) -> None:
    await keeping.append(3)
    head = keeping.writer.chain
    keeping.register = (7, b"r" * 32)

    keeping.keeper.keep()

    [published] = await keeping.published(1)
    assert published.is_signed()
    assert (published.writer, published.head, published.key) == (WRITER, head, KEYS.public_key)
    assert published.register == (7, b"r" * 32)
    assert published.at.timestamp() == NOW
    assert (published.previous, published.closed) == (None, False)
    await keeping.keeper.close()
    end, [(number, recorded), (last, closing)] = chain_of(keeping.disk)
    assert (number, recorded) == (4, published)
    assert (last, closing.sequence, closing.previous, closing.closed) == (5, 4, 3, True)
    assert end == keeping.writer.chain


async def test_the_end_is_published_too(keeping: Keeping) -> None:
    await keeping.keeper.close()

    assert [each.closed for each in keeping.place.published] == [True]
    assert keeping.place.closed


async def test_they_come_while_it_runs(keeping: Keeping) -> None:
    await keeping.append(RECORDS)
    running = asyncio.ensure_future(keeping.keeper.run())
    await keeping.published(1)
    await eventually(
        lambda: keeping.writer.chain.sequence > RECORDS, DEADLINE_SECONDS, "it stands in the chain"
    )
    keeping.time += SECONDS + POLL_SECONDS
    await keeping.published(2)
    for place in ("file", "spool"):  # each is counted by a thread of its own, a moment later
        await eventually(
            lambda place=place: keeping.counted("audit_checkpoints", place) == 2,
            DEADLINE_SECONDS,
            f"two in the {place}",
        )
    running.cancel()

    assert [each.sequence for each in keeping.place.published] == [RECORDS, RECORDS + 1]


async def test_a_spool_that_fails_keeps_none_from_the_second_place(keeping: Keeping) -> None:
    await keeping.append(1)
    keeping.disk.fail(Operation.WRITE, errno.EIO)
    keeping.disk.fail(Operation.SYNC, errno.EIO)

    for _ in range(2):
        keeping.keeper.keep()
        await eventually(
            lambda: bool(keeping.counted("audit_checkpoint_failures", "spool")),
            DEADLINE_SECONDS,
            "the spool refused",
        )
    assert [each.sequence for each in await keeping.published(2)] == [1, 1]

    keeping.disk.heal()
    await eventually(lambda: keeping.writer.chain.sequence > 1, DEADLINE_SECONDS, "written at last")
    keeping.keeper.keep()
    assert (await keeping.published(3))[-1].previous is not None


async def test_a_disk_that_hangs_is_given_one_and_the_second_place_all(keeping: Keeping) -> None:
    await keeping.append(1)
    with keeping.disk.hold_syncs():
        for _ in range(3):
            keeping.keeper.keep()
        await keeping.published(3)
        assert keeping.writer.waiting_bytes < 2 * len(keeping.place.published[0].payload)
    await keeping.keeper.close()

    _, checkpoints = chain_of(keeping.disk)
    assert [each.closed for _, each in checkpoints] == [False, True]


async def test_a_second_place_that_is_away_gets_all_of_them_in_order_once_it_is_back(
    keeping: Keeping,
) -> None:
    keeping.place.away = True
    for _ in range(3):
        await keeping.append(1)
        keeping.keeper.keep()
    keeping.time = 60.0
    await eventually(
        lambda: (keeping.counted("audit_checkpoint_failures", "file") or 0) > 1,
        DEADLINE_SECONDS,
        "tried again",
    )
    assert keeping.publisher.age_seconds == 60.0

    keeping.place.away = False

    sequences = [each.sequence for each in await keeping.published(3)]
    assert sequences == sorted(set(sequences))
    await eventually(
        lambda: keeping.publisher.age_seconds == 0, DEADLINE_SECONDS, "nothing is missing"
    )


async def test_what_waits_is_bounded_and_the_newest_stay() -> None:
    place = MemoryPlace()
    place.away = True
    publisher = Publisher(
        place, Metrics(CollectorRegistry()), max_waiting=2, first_retry_seconds=0.001
    )
    made = [
        parse_checkpoint(
            closing_frames(KEYS, ignored, lambda: NOW)(
                WRITER, ChainHead(n, b"h" * 32), None
            ).payload
        )
        for n in range(10)
    ]
    for each in made:
        publisher.offer(each)
    place.away = False

    await eventually(lambda: len(place.published) >= 2, DEADLINE_SECONDS, "published")
    await publisher.close(DEADLINE_SECONDS)
    assert place.published[-2:] == made[-2:]
    assert len(place.published) <= 3  # one may have been under way


async def test_a_place_that_never_takes_anything_delays_no_end() -> None:
    place = MemoryPlace()
    place.away = True
    publisher = Publisher(place, Metrics(CollectorRegistry()), first_retry_seconds=3600.0)
    publisher.offer(
        parse_checkpoint(closing_frames(KEYS, ignored, lambda: NOW)(WRITER, GENESIS, None).payload)
    )

    await publisher.close(DEADLINE_SECONDS)

    assert place.closed


def test_whoever_recovers_a_chain_can_close_it_in_both_places() -> None:
    offered: list[Checkpoint] = []
    frame = closing_frames(KEYS, offered.append, lambda: NOW)(WRITER, ChainHead(9, b"h" * 32), 5)

    closing = parse_checkpoint(frame.payload)
    assert frame.kind == FrameKind.CHECKPOINT
    assert closing.is_signed()
    assert (closing.sequence, closing.previous, closing.closed) == (9, 5, True)
    assert offered == [closing]


def test_a_closing_checkpoint_goes_to_the_second_place_once_more() -> None:
    offered: list[Checkpoint] = []
    frame = closing_frames(KEYS, ignored, lambda: NOW)(WRITER, ChainHead(9, b"h" * 32), 5)
    closing = parse_checkpoint(frame.payload)
    closed_again(KEYS, offered.append)(closing)
    assert offered == [closing]


def test_one_that_we_have_not_signed_does_not() -> None:
    """It came from a disk."""
    offered: list[Checkpoint] = []
    offer_again = closed_again(KEYS, offered.append)
    frame = closing_frames(KEYS, ignored, lambda: NOW)(WRITER, ChainHead(9, b"h" * 32), 5)
    ours = parse_checkpoint(frame.payload)
    offer_again(replace(ours, signature=bytes(64)))
    others = derived_signing_keys(b"another pepper")
    theirs = closing_frames(others, ignored, lambda: NOW)(WRITER, ChainHead(9, b"h" * 32), 5)
    offer_again(parse_checkpoint(theirs.payload))
    assert offered == []
