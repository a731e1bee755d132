"""Records that the database can never take: set aside, alone, and alarmed."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.spool import shipper
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.segments import segment_path
from app.audit.spool.set_aside import SET_ASIDE_NAME
from app.store.database import create_engine
from tests.integration.audit.logged import NOW, eventually
from tests.integration.audit.spool.spooling import (
    POISON,
    Record,
    intent,
    outcomes,
    poison,
    requests,
    spooling,
    times_written,
)
from tests.support.postgres_proxy import Cut, postgres_proxy


def set_aside(directory: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (directory / SET_ASIDE_NAME).read_bytes().splitlines()]


async def test_a_poison_row_is_set_aside_alone_and_soon(root: Path, engine: AsyncEngine) -> None:
    begun: list[object] = []
    records: list[Record] = [intent(f"req_{number:03}") for number in range(998)]
    records[500:500] = [intent("req_poison"), poison("req_poison")]
    async with spooling(root, engine, segment_bytes=1024 * 1024, ship=False) as process:
        await process.append(*records)
        event.listen(engine.sync_engine, "begin", begun.append)
        with capture_logs() as logs:
            await process.drain()
        (line,) = set_aside(process.own.path)
    assert (line["request_id"], line["reason"]) == ("req_poison", "SQLSTATE 23514")
    assert orjson.loads(line["payload"])["error_code"] == POISON
    assert line["at"] == NOW * 1e6
    found = await outcomes(engine)
    assert len(found) == 999
    assert found["req_poison"] is None  # its intent is there
    assert (process.written, process.set_aside) == (999, 1)
    (told,) = [each for each in logs if each["event"] == "audit_record_set_aside"]
    assert (told["log_level"], told["request_id"]) == ("error", "req_poison")
    assert len(begun) < 20  # halves, and not one by one
    assert (process.own.path / SET_ASIDE_NAME).stat().st_mode & 0o777 == 0o600


async def test_many_poison_rows_hold_up_nothing(root: Path, engine: AsyncEngine) -> None:
    good = [intent(f"req_{number:03}") for number in range(60)]
    bad = [poison(f"req_bad_{number:03}") for number in range(30)]
    async with spooling(root, engine) as process:
        await process.append(*good[:30], *bad[:15], *good[30:], *bad[15:])
        await eventually(lambda: process.written == 60)
        await eventually(lambda: process.set_aside == 30)
        await eventually(lambda: process.figures == (0, 0, 0))
        kept = set_aside(process.own.path)
        assert [line["request_id"] for line in kept] == [each.request_id for each in bad]
    assert set((await times_written(engine)).values()) == {1}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(FrameKind.MESSAGE, b"\x01\x00"), (FrameKind.MESSAGE, b"\x09" * 200), (200, b"{}")],
    ids=["a message cut short", "a message of a newer version", "of a newer version"],
)
async def test_a_frame_that_cannot_be_read_is_set_aside_as_it_is(
    root: Path, engine: AsyncEngine, kind: int, payload: bytes
) -> None:
    async with spooling(root, engine) as process:
        await process.append(intent("req_a"))
        await process.append_frames(Frame(kind, payload))
        await process.append(intent("req_b"))
        await eventually(lambda: process.written == 2)
        (line,) = set_aside(process.own.path)
    assert (line["kind"], line["segment"]) == (kind, 1)
    kept = bytes.fromhex(line["payload_hex"]) if "payload_hex" in line else line["payload"].encode()
    assert kept == payload
    assert await outcomes(engine) == {"req_a": None, "req_b": None}


async def test_what_a_damaged_segment_holds_behind_the_damage_is_set_aside(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, ship=False) as dead:
        await dead.append(*requests(3))
        await dead.writer.close()
        path = segment_path(dead.own.path, 1)
        data = bytearray(path.read_bytes())
        whole = data.rstrip(b"\0")
        data[len(whole) - 10] ^= 1
        path.write_bytes(data)
    async with spooling(root, engine) as process:
        await eventually(lambda: not dead.own.path.exists())
        (line,) = set_aside(process.own.path)
        assert (line["writer"], line["segment"], line["kind"]) == (dead.own.writer, 1, None)
        assert bytes.fromhex(line["payload_hex"]) == bytes(data[line["offset"] : len(whole)])
    # The damaged record was its outcome.
    assert await outcomes(engine) == {
        "req_00000": "completed",
        "req_00001": "completed",
        "req_00002": "crashed",
    }


async def test_what_was_set_aside_outlives_its_directory(root: Path, engine: AsyncEngine) -> None:
    async with spooling(root, engine) as first:
        await first.append(intent("req_1"), poison("req_1"))
        await eventually(lambda: first.set_aside == 1)
    async with spooling(root, engine, ship=False) as second:
        await second.append(poison("req_2"))
        await second.drain()
    assert not list(second.own.path.glob("*.spool"))
    async with spooling(root, engine) as third:
        await eventually(lambda: not first.own.path.exists() and not second.own.path.exists())
        kept = set_aside(third.own.path)
    assert {line["request_id"] for line in kept} == {"req_1", "req_2"}
    assert {line["writer"] for line in kept} == {first.own.writer, second.own.writer}


async def test_a_record_whose_setting_aside_was_not_heard_of_is_alarmed_once(
    root: Path, database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "FIRST_RETRY_SECONDS", 0.001)
    async with postgres_proxy(database_url) as (proxy, url):
        cut_engine = create_engine(url, connections=1)
        async with spooling(root, cut_engine, ship=False) as process:
            await process.append(poison("req_poison"))
            proxy.cuts += [Cut.BEFORE_COMMIT, Cut.AFTER_COMMIT]
            await process.drain()
            assert not proxy.cuts
            assert len(set_aside(process.own.path)) == 1
            assert process.set_aside == 1
        await cut_engine.dispose()
