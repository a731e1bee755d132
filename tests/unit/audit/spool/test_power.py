"""Losses of power, and kills that one follows: what was not synced is there in part, or not at all.

The disk is in memory and knows what a loss of power leaves. Lives and recoveries end at any of its
operations.
"""

import copy
import random
from pathlib import Path

from app.audit.spool.recovery import recover
from app.audit.spool.writer import SpoolWriter
from tests.support.killing_disk import KillingDisk, Moment
from tests.support.memory_disk import MemoryDisk
from tests.support.spool_life import (
    WRITER,
    Told,
    answer_of,
    check_recovered,
    closing,
    live,
)
from tests.support.spooled import read_records

SEED = 7
RUNS = 150
DIRECTORY = Path("/audit") / WRITER


class End:
    """Of a life at an operation of its disk: by a kill, or by a loss of power. What the life goes
    on to do is not part of this world any more."""

    def __init__(
        self, disk: MemoryDisk, chance: random.Random, told: Told, operations: int
    ) -> None:
        self.disk = disk  # as it is found after the end, or as it is without one
        self.told = told
        self.came = False
        self._now = disk
        self._telling = told
        self._chance = chance
        self.deadly = KillingDisk(
            disk,
            chance.randrange(operations),
            chance.choice(list(Moment)),
            chance.random(),
            kill=self._come,
        )

    def _come(self) -> None:
        """First what was told, since the life goes on in another thread meanwhile."""
        self.told = copy.deepcopy(self._telling)
        left = self._now if self._chance.random() < 0.5 else self._now.fail_power(self._chance)
        self.disk = copy.deepcopy(left)
        self.came = True


async def test_whatever_ends_it_when_what_was_acknowledged_stays_and_has_one_end() -> None:
    chance = random.Random(SEED)
    ended = 0
    for _ in range(RUNS):
        telling = Told()
        end = End(MemoryDisk(), chance, telling, operations=60)
        writer = SpoolWriter(DIRECTORY, end.deadly, writer=WRITER, segment_bytes=8 * 1024)
        await live(writer, chance.getrandbits(40), telling.hear)
        await writer.close()
        disk, told = end.disk, end.told
        ended += end.came
        for _ in range(chance.randrange(4)):
            end = End(disk, chance, told, operations=20)
            await recover(DIRECTORY, end.deadly, answer_of=answer_of, closing=closing)
            disk = end.disk
            ended += end.came
        await recover(DIRECTORY, disk, answer_of=answer_of, closing=closing)
        check_recovered(read_records(DIRECTORY, disk), told)
        # What recovery has read as written, a shipper has taken for true.
        disk = disk.fail_power(chance)
        check_recovered(read_records(DIRECTORY, disk), told)
        await recover(DIRECTORY, disk, answer_of=answer_of, closing=closing)
        check_recovered(read_records(DIRECTORY, disk), told)
    assert ended > RUNS
