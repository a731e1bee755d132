"""What becomes of a spool's frames in the tables."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.chain import GENESIS, link
from app.audit.content.nodes import ROOT, StoredMessage, message_payload
from app.audit.projection import COLUMNS, columns_of
from app.audit.spool.backlog import MAX_BATCH_BYTES
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.shipment import Shipment
from app.store.database import create_engine
from app.store.tables import audit_events, audit_messages, audit_register
from app.telemetry.metrics import Metrics
from tests.integration.audit.logged import NOW, eventually
from tests.integration.audit.spool.conftest import forget_rows
from tests.integration.audit.spool.spooling import (
    ADDRESSES,
    Spooling,
    intent,
    message,
    outcome,
    query,
    requests,
    spooling,
    times_written,
)

MIB = 1024 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REGISTRATION = Frame(FrameKind.REGISTRATION, b'{"gateway":"test"}')
UNSHIPPED = [
    Frame(FrameKind.BODY, b'{"request_id":"req_1","content":{}}'),
    Frame(FrameKind.CHUNK, b'{"request_id":"req_1"}'),
]


async def events(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        wanted = select(audit_events).order_by(audit_events.c.writer, audit_events.c.sequence)
        return list((await connection.execute(wanted)).mappings())


async def messages(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(select(audit_messages))).mappings())


async def test_each_event_has_its_place_in_the_chain_of_its_writer(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, segment_bytes=4096, recorded_at=NOW + 1e-6) as process:
        await process.append_frames(
            REGISTRATION,
            Frame(FrameKind.CHECKPOINT, b"{}"),
            Frame(FrameKind.ERASURE, b'{"tenant":"acme"}'),
            Frame(FrameKind.RETENTION, b"{}"),
            Frame(FrameKind.INTENT, b"no JSON"),
            *UNSHIPPED,
        )
        await process.append(*requests(30))
        await eventually(lambda: process.written == 65)
        chain, head = process.writer.chain, GENESIS
    for row in await events(engine):
        at = round((row["recorded_at"] - EPOCH).total_seconds() * 1e6)
        head = link(head, row["kind"], at, row["payload"])
        assert (row["sequence"], row["hash"]) == head
        assert {name: row[name] for name in COLUMNS} == columns_of(row["kind"], row["payload"])
    assert (head, head.sequence) == (chain, 65)
    (offset,) = await query(engine, "SELECT sequence, hash FROM audit_spool_offsets")
    assert offset == head


async def test_the_time_of_an_event_is_that_of_its_recording(
    root: Path, engine: AsyncEngine
) -> None:
    recorded_at = NOW - 12_345.678901
    async with spooling(root, engine, recorded_at=recorded_at) as process:
        await process.append(intent("req_1"))
        await eventually(lambda: process.written == 1)
    (row,) = await events(engine)
    assert row["recorded_at"] == datetime.fromtimestamp(recorded_at, UTC)
    assert row["received_at"] == datetime.fromtimestamp(NOW, UTC)


async def test_what_only_a_recovery_needs_is_not_shipped_and_does_not_wait(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, segment_bytes=4096, ship=False) as process:
        await process.append(*requests(1))
        await process.append_frames(*(UNSHIPPED * 100))
        await process.append(*requests(1))
        assert await process.drain()
        assert process.written == 4
        assert process.figures == (0, 0, 0)
        assert not process.own.path.exists()
    assert {row["kind"] for row in await events(engine)} == {1, 2}


async def test_a_message_is_stored_once_a_day_for_all_processes(
    root: Path, database_url: str, engine: AsyncEngine
) -> None:
    bodies = [b'{"number":%d}' % number for number in range(200)]
    other_engine = create_engine(database_url, connections=1)
    async with spooling(root, engine, ship=False) as one, spooling(root, other_engine) as other:
        await one.append_frames(*map(message, bodies))
        # In the other order: two who store the same must not wait for each other in a circle.
        await other.append_frames(*map(message, reversed(bodies)))
        async with asyncio.TaskGroup() as group:
            group.create_task(one.drain())
            group.create_task(eventually(lambda: other.written == 200))
        assert (one.set_aside, other.set_aside) == (0, 0)
    await other_engine.dispose()
    found = await messages(engine)
    assert sorted(row["body"] for row in found) == sorted(bodies)
    assert {row["stored_on"] for row in found} == {datetime.fromtimestamp(NOW, UTC).date()}
    for row in found:
        node = ADDRESSES.node("acme", ROOT, row["body"])
        assert (row["address"], row["parent"], row["salt"]) == (node.address, ROOT, node.salt)
        assert (row["tenant"], row["encoding"]) == ("acme", 0)


async def test_the_largest_message_is_stored_whole(root: Path, engine: AsyncEngine) -> None:
    node = ADDRESSES.node("acme", ROOT, b'{"content":"%s"}' % (b"x" * 32 * MIB))
    raw = message_payload(node._replace(body=b"{}"), "acme")[:-2] + node.body
    async with spooling(root, engine) as process:
        await process.append_frames(Frame(FrameKind.MESSAGE, raw), message(b"{}"))
        await process.append(*requests(2))
        await eventually(lambda: process.written == 6)
    found = {row["address"]: row for row in await messages(engine)}
    row = found[node.address]
    assert row["body"] == node.body
    assert StoredMessage(**{name: row[name] for name in STORED}).intact


STORED = ("tenant", "address", "parent", "salt", "encoding", "body")


async def test_a_batch_has_no_more_bytes_than_one_transaction_should(
    root: Path, engine: AsyncEngine
) -> None:
    large = [
        Frame(FrameKind.RETENTION, b"%d" % number + b" " * (MAX_BATCH_BYTES // 3))
        for number in range(5)
    ]
    async with spooling(root, engine, segment_bytes=8 * MIB, ship=False) as process:
        await process.append_frames(*large)
        assert await process.drain()
    transactions = "SELECT count(*) FROM (SELECT DISTINCT xmin::text FROM audit_events) AS t"
    assert await query(engine, transactions) == [(3,)]


@pytest.mark.parametrize("day", [date(1970, 1, 1), date(2106, 2, 7)])
async def test_a_partition_that_is_missing_is_made_and_nothing_set_aside(
    root: Path, engine: AsyncEngine, day: date
) -> None:
    recorded_at = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 1
    async with spooling(root, engine, recorded_at=recorded_at) as process:
        await process.append_frames(message(b"{}"))
        await process.append(*requests(20))
        with capture_logs() as logs:
            await eventually(lambda: process.written == 41)
        assert (process.set_aside, logs) == (0, [])
    assert {row["recorded_at"].date() for row in await events(engine)} == {day}
    assert {row["stored_on"] for row in await messages(engine)} == {day}


async def test_an_event_of_a_time_that_no_date_can_say_is_set_aside(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, recorded_at=1e12) as process:
        await process.append(intent("req_1"))
        await eventually(lambda: process.set_aside == 1)
        await eventually(lambda: process.figures == (0, 0, 0))
    assert await events(engine) == []


async def test_a_writer_is_registered_with_its_first_event(root: Path, engine: AsyncEngine) -> None:
    async with spooling(root, engine) as first:
        await first.append_frames(REGISTRATION)
        await first.append(intent("req_1"))
        await eventually(lambda: first.written == 2)
        at = first.writer.chain
        async with spooling(root, engine) as second:
            await second.append_frames(REGISTRATION)
            await eventually(lambda: second.written == 1)
            assert second.shipper.register_head is not None
            assert second.shipper.register_head[0] == 2
    async with engine.connect() as connection:
        wanted = select(audit_register).order_by(audit_register.c.number)
        one, two = (await connection.execute(wanted)).all()
    assert (one.writer, two.writer) == (first.own.writer, second.own.writer)
    assert orjson.loads(two.entry)["witnessed"] == {first.own.writer: [2, at.hash.hex()]}
    assert second.shipper.register_head == (2, two.hash)
    registered = {
        row["writer"]: row["hash"].hex() for row in await events(engine) if row["kind"] == 7
    }
    for row in (one, two):
        assert orjson.loads(row.entry)["registration"] == registered[row.writer]


async def test_a_dead_process_that_shipped_nothing_is_registered_too(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, ship=False) as dead:
        await dead.append_frames(REGISTRATION)
        await dead.append(*requests(1))
    async with spooling(root, engine) as process:
        await eventually(lambda: not dead.own.path.exists())
        assert process.shipper.register_head is not None
    assert await query(engine, "SELECT number, writer FROM audit_register") == [
        (1, dead.own.writer)
    ]


async def test_a_set_back_database_registers_a_writer_again_and_once(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine) as process:
        await process.append_frames(REGISTRATION)
        await eventually(lambda: process.written == 1)
        await forget_rows(engine)
        await process.append(intent("req_1"))
        await eventually(lambda: process.written == 3)
    assert await query(engine, "SELECT number, writer FROM audit_register") == [
        (1, process.own.writer)
    ]


async def test_a_gap_in_a_chain_is_told_and_the_rest_is_shipped(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, segment_bytes=2048, ship=False) as dead:
        await dead.append(*requests(20))
        lost = dead.segments[2]
    (dead.own.path / f"{lost}.spool").unlink()
    async with spooling(root, engine) as process:
        with capture_logs() as logs:
            await eventually(lambda: not dead.own.path.exists())
        assert process.counted("gateway_audit_chain_breaks_total") == 1
    (broken,) = [line for line in logs if line["event"] == "audit_chain_broken"]
    assert broken["log_level"] == "error"
    assert broken["writer"] == dead.own.writer
    assert broken["found_sequence"] > broken["expected_sequence"] > 0
    kept = [row["sequence"] for row in await events(engine)]
    assert not set(kept) & set(range(broken["expected_sequence"] + 1, broken["found_sequence"] + 1))
    assert kept[-1] >= 40


async def test_a_chain_that_the_database_has_otherwise_is_told(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, ship=False) as process:
        await process.append(*requests(2))
        assert await shipment_of(process, engine).ship_next()
        async with engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE audit_spool_offsets SET hash = '\\x00'")
        await process.append(*requests(1))
        registry = CollectorRegistry()
        with capture_logs() as logs:
            assert await shipment_of(process, engine, registry).ship_next()
        assert registry.get_sample_value("gateway_audit_chain_breaks_total") == 1
    assert [(line["event"], line["found_sequence"]) for line in logs] == [("audit_chain_broken", 4)]
    assert len(await events(engine)) == 6


async def test_an_offset_of_an_older_version_knows_no_chain_to_break(
    root: Path, engine: AsyncEngine
) -> None:
    async with spooling(root, engine, ship=False) as process:
        await process.append(*requests(2))
        assert await shipment_of(process, engine).ship_next()
        async with engine.begin() as connection:
            await connection.exec_driver_sql(
                "UPDATE audit_spool_offsets SET hash = NULL, sequence = 0"
            )
        await process.append(*requests(1))
        with capture_logs() as logs:
            assert await shipment_of(process, engine).ship_next()
    assert logs == []


def shipment_of(
    process: Spooling, engine: AsyncEngine, registry: CollectorRegistry | None = None
) -> Shipment:
    """As a process has it that begins now."""
    return Shipment(engine, process.own, RealDisk(), process.writer, Metrics(registry))


async def test_events_that_another_has_put_there_are_told(root: Path, engine: AsyncEngine) -> None:
    async with spooling(root, engine, ship=False) as process:
        await process.append(outcome("req_1"))
        async with engine.begin() as connection:
            await connection.execute(
                audit_events.insert().values(
                    recorded_at=datetime.fromtimestamp(NOW, UTC),
                    writer=process.own.writer,
                    sequence=1,
                    kind=2,
                    hash=b"",
                    payload=b"{}",
                )
            )
        with capture_logs() as logs:
            assert await process.drain()
    (told,) = [line for line in logs if line["event"] == "audit_events_already_there"]
    assert (told["log_level"], told["events"]) == ("error", 1)
    assert await times_written(engine) == {None: 1, "req_1": 1}
