"""Processes that are killed while they append, and while they recover what others appended.

A child tells over a pipe what it is about to append, and what it was told is durable. Whatever
happens to it, and however often recovery is killed too, the spool then agrees with what it told.
"""

import asyncio
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from app.audit.spool.directory import abandoned, open_own
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import encode
from app.audit.spool.recovery import Recovered, recover
from app.audit.spool.writer import SpoolWriter
from tests.support.forks import fork, kill, kill_myself, was_killed
from tests.support.killing_disk import KillingDisk, Moment
from tests.support.spool_life import (
    CHUNK,
    CONCURRENT,
    INTENT,
    OUTCOME,
    REQUESTS_EACH,
    Told,
    answer_of,
    body_frame,
    check_recovered,
    chunk_frame,
    closing,
    intent_frame,
    live,
    outcome_frame,
)
from tests.support.spooled import read_records, read_segments

SEED = 20_260
RUNS = 200
SEGMENT_BYTES = 4096  # some eight records, so that many a kill meets a new segment
# Each new segment costs a disk as much as twenty groups, so not all runs have the small ones.
SEGMENTS_BYTES = (SEGMENT_BYTES, 16 * 1024, 64 * 1024, 64 * 1024)


async def live_and_die(root: Path, disk: Disk, seed: int, pipe: int) -> None:
    own = open_own(root)
    segment_bytes = random.Random(seed).choice(SEGMENTS_BYTES)
    writer = SpoolWriter(own.path, disk, writer=own.writer, segment_bytes=segment_bytes)
    await live(writer, seed, lambda *words: os.write(pipe, f"{' '.join(words)}\n".encode()))
    kill_myself()


def kill_a_life(root: Path, chance: random.Random) -> Told:
    """Killed from outside after a number of acknowledgements, or from inside at an operation of
    the disk."""
    limit = chance.randrange(2 * CONCURRENT * REQUESTS_EACH) if chance.random() < 0.5 else None
    disk = RealDisk() if limit is not None else deadly_disk(chance, operations=80)
    seed = chance.getrandbits(40)
    receiver, sender = os.pipe()
    pid = fork(lambda: asyncio.run(live_and_die(root, disk, seed, sender)))
    os.close(sender)
    told = Told()
    with os.fdopen(receiver, "rb") as lines:
        if limit is not None:
            hear(told, lines, limit)
            kill(pid)
        hear(told, lines)  # also what it said between our decision and its end
    if limit is None:
        assert was_killed(pid)
    return told


def deadly_disk(chance: random.Random, operations: int) -> KillingDisk:
    moment = chance.choice([Moment.BEFORE, Moment.WITHIN, Moment.WITHIN, Moment.AFTER])
    return KillingDisk(RealDisk(), chance.randrange(operations), moment, chance.random())


def hear(told: Told, lines: BinaryIO, acknowledgements: int | None = None) -> None:
    """Up to so many in all, or to the end."""
    while len(told.acknowledged) != acknowledgements and (line := lines.readline()):
        told.hear(*line.decode().split())


def recover_abandoned(root: Path, disk: Disk) -> Recovered:
    """Of the one directory there is, or of none."""
    directories = abandoned(root)
    assert len(directories) <= 1
    recovered = Recovered()
    for directory in directories:
        recovered = asyncio.run(recover(directory.path, disk, answer_of=answer_of, closing=closing))
        directory.close()
    return recovered


def check(root: Path, told: Told) -> None:
    directories = list(root.iterdir()) if root.exists() else []
    if directories:
        check_recovered(read_records(directories[0]), told)
    else:
        assert not told.acknowledged


def test_whatever_is_killed_when_what_was_acknowledged_is_there_and_has_one_end(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    crashed = damaged = killed_recoveries = acknowledged = 0
    for run in range(RUNS):
        root = tmp_path / str(run)
        told = kill_a_life(root, chance)
        acknowledged += len(told.acknowledged)
        for _ in range(chance.randrange(3)):
            disk = deadly_disk(chance, operations=24)
            killed_recoveries += was_killed(fork(partial(recover_abandoned, root, disk)))
        recovered = recover_abandoned(root, RealDisk())
        crashed += len(recovered.crashed)
        damaged += len(recovered.damaged)
        check(root, told)
        assert recover_abandoned(root, RealDisk()).crashed == []
        check(root, told)
        shutil.rmtree(root, ignore_errors=True)
    # The kills were where they hurt.
    assert acknowledged > 20 * RUNS
    assert crashed > RUNS
    assert damaged > RUNS / 30
    assert killed_recoveries > RUNS / 4


IDS = [f"req_{number}" for number in range(20)]
NEVER_ENDED = IDS[::3]
TOLD = Told()
TOLD.asked = TOLD.acknowledged = (
    {(INTENT, request_id) for request_id in IDS}
    | {(CHUNK, f"{request_id}:0") for request_id in IDS}
    | {(OUTCOME, request_id) for request_id in IDS if request_id not in NEVER_ENDED}
)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The root of a spool as a killed process leaves it: with open intents, a torn frame, and a
    reserve."""
    root = tmp_path / "left"

    async def live_and_tear() -> None:
        own = open_own(root)
        writer = SpoolWriter(own.path, RealDisk(), writer=own.writer, segment_bytes=SEGMENT_BYTES)
        for request_id in IDS:
            await writer.append([intent_frame(request_id), body_frame(request_id)])
            await writer.append([chunk_frame(request_id, 0)])
            if request_id not in NEVER_ENDED:
                await writer.append([outcome_frame(request_id)], essential=True)
        last = sorted(own.path.glob("*.spool"))[-1]
        number = int(last.stem)
        torn = last.with_name(f"{number + 1:08}.spool")
        intent = intent_frame("req_torn")
        whole = encode(intent.kind, intent.payload)
        torn.write_bytes(whole[:-7].ljust(SEGMENT_BYTES, b"\0"))
        last.with_name(f"{number + 2:08}.spool").write_bytes(bytes(SEGMENT_BYTES))
        kill_myself()

    assert was_killed(fork(lambda: asyncio.run(live_and_tear())))
    return root


def killed_recoveries(root: Path, moment: Moment) -> Iterator[int]:
    """One is killed at each operation of the disk in turn, until one is not killed."""
    for operation in range(1000):
        disk = KillingDisk(RealDisk(), operation, moment)
        if not was_killed(fork(partial(recover_abandoned, root, disk))):
            return
        yield operation


@pytest.mark.parametrize("moment", Moment)
def test_a_recovery_that_is_killed_at_any_operation_is_done_by_the_next(
    left: Path, tmp_path: Path, moment: Moment
) -> None:
    root = tmp_path / "root"
    shutil.copytree(left, root)
    killed = 0
    for _ in killed_recoveries(root, moment):
        killed += 1
        recover_abandoned(root, RealDisk())
        check(root, TOLD)
        shutil.rmtree(root)
        shutil.copytree(left, root)
    assert killed > 10


@pytest.mark.parametrize("moment", Moment)
def test_a_recovery_that_is_killed_again_and_again_writes_each_end_once(
    left: Path, moment: Moment
) -> None:
    assert len(list(killed_recoveries(left, moment))) > 10
    check(left, TOLD)


def test_recovery_changes_nothing_when_it_is_done_again(left: Path) -> None:
    recovered = recover_abandoned(left, RealDisk())
    assert recovered.crashed == NEVER_ENDED
    assert len(recovered.damaged) == 1
    (directory,) = left.iterdir()
    before = read_segments(directory)
    again = recover_abandoned(left, RealDisk())
    assert again.crashed == []
    assert again.damaged == recovered.damaged
    assert read_segments(directory) == before
