"""A shipper that is killed at each thing that it does, one after the other, and followed by
another: every record is in the table, and was written once."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.spool.cursor import WriterGone
from app.audit.spool.directory import abandoned
from app.audit.spool.disk import RealDisk
from app.audit.spool.set_aside import SET_ASIDE_NAME
from app.audit.spool.shipment import Shipment
from app.telemetry.metrics import Metrics
from tests.integration.audit.logged import eventually
from tests.integration.audit.spool.conftest import forget_rows
from tests.integration.audit.spool.spooling import (
    outcome,
    poison,
    query,
    spooling,
    times_written,
)

SEGMENT_BYTES = 1_420  # for two records, and for how it follows the segment before
BATCH_RECORDS = 3
MAX_STEPS = 500


class Killed(BaseException):
    pass


class Steps:
    """Counts what is done on the disk and in the database, and ends it at a number."""

    left = float("inf")

    def take(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class SteppingDisk(RealDisk):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def read(self, path: Path, offset: int, size: int) -> bytes:
        self._steps.take()
        return super().read(path, offset, size)

    def remove(self, path: Path) -> None:
        self._steps.take()
        super().remove(path)

    def list(self, path: Path) -> Sequence[Path]:
        self._steps.take()
        return super().list(path)

    def sync_directory(self, path: Path) -> None:  # once a record was set aside
        self._steps.take()
        super().sync_directory(path)


@pytest.fixture
def steps(engine: AsyncEngine) -> Steps:
    steps = Steps()
    for name in ("begin", "before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(engine.sync_engine, name, steps.take)
    return steps


async def test_a_shipper_may_be_killed_at_any_step(
    tmp_path: Path, engine: AsyncEngine, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.audit.spool.shipment.MAX_BATCH_RECORDS", BATCH_RECORDS)
    ids = [f"req_{number}" for number in range(5)]
    for survived in count():
        assert survived < MAX_STEPS
        root = tmp_path / str(survived)
        steps.left = float("inf")
        await forget_rows(engine)
        async with spooling(root, engine, segment_bytes=SEGMENT_BYTES, ship=False) as dead:
            await dead.append(*map(outcome, ids[:3]), poison("req_poison"), *map(outcome, ids[3:]))
        killed = await ship_until_killed(root, engine, steps, survived)

        async with spooling(root, engine) as last:
            await eventually(lambda dead=dead: not dead.own.path.exists())
            # One file of both, where the one that was killed had set it aside already.
            kept = (last.own.path / SET_ASIDE_NAME).read_bytes().splitlines()
        assert await times_written(engine) == dict.fromkeys(ids, 1), survived
        assert [orjson.loads(line)["request_id"] for line in kept] == ["req_poison"], survived
        assert await query(engine, "SELECT writer FROM audit_spool_offsets") == []
        if not killed:
            assert survived > 40  # so often was it killed
            return


async def ship_until_killed(root: Path, engine: AsyncEngine, steps: Steps, survived: int) -> bool:
    """False if it came to its end before."""
    (directory,) = abandoned(root)
    shipment = Shipment(engine, directory, SteppingDisk(steps), WriterGone(), Metrics())
    steps.left = survived
    try:
        await ship_all(shipment)
    except Killed:
        return True
    else:
        return False
    finally:
        steps.left = float("inf")
        directory.close()


async def ship_all(shipment: Shipment) -> None:
    while await shipment.ship_next():
        await shipment.remove_shipped()
    await shipment.remove(heir=None)
