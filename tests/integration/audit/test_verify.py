"""Logs that nobody has touched are found to be so, in whatever state they are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.erasure import erase
from app.audit.log_reader import Part
from app.audit.retention import dropped_chains, retention_payload
from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from tests.integration.audit.replica import KEYS, TABLES, replica, tamper, verified

HOUR = 3600.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture(autouse=True)
async def empty_log(engine: AsyncEngine) -> None:
    await tamper(engine, f"TRUNCATE {TABLES}")


async def test_an_empty_log_is_clean(engine: AsyncEngine) -> None:
    report = await verified(engine)

    assert report.findings.in_order() == []
    assert (report.chains, report.events) == (0, 0)


async def test_a_closed_chain_is_clean_and_covered_whole(engine: AsyncEngine, root: Path) -> None:
    async with replica(root, engine) as process:
        for number in range(5):
            await process.request(f"req_{number}")
        await process.checkpoint()

    report = await verified(engine, root, later_seconds=2 * HOUR)

    assert report.findings.in_order() == []
    assert report.notes == []
    assert report.not_covered == []
    assert (report.chains, report.events, report.register_rows) == (1, 1 + 10 + 2, 1)
    assert report.checkpoints == 4  # two in the chain, and the same two in the second place
    assert report.messages == 3


async def test_several_replicas_witness_each_other(engine: AsyncEngine, root: Path) -> None:
    async with replica(root, engine) as first, replica(root, engine) as second:
        for process in (first, second):
            await process.request(f"req_{process.writer}")
            await process.checkpoint()
            await process.shipped()
        async with replica(root, engine) as third:
            await third.request("req_3")

    report = await verified(engine, root)

    assert report.findings.in_order() == []
    assert (report.chains, report.register_rows) == (3, 3)


async def test_of_a_chain_that_lives_what_no_checkpoint_covers_is_told(
    engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, engine) as process:
        await process.request("req_1")
        await process.checkpoint()
        await process.request("req_2")
        await process.shipped()

        report = await verified(engine, root)

        assert report.findings.in_order() == []
        [chain] = report.not_covered
        assert (chain.writer, chain.first, chain.events) == (process.writer, 4, 3)


async def test_events_that_no_checkpoint_ever_covers_are_found(
    engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, engine, closes=False) as process:
        await process.checkpoint()
        await process.request("req_1")

    report = await verified(engine, root, later_seconds=2 * HOUR)

    [finding] = report.findings.in_order()
    assert (finding.problem, finding.sequence, finding.request_id) == (
        Problem.UNPROVEN,
        3,
        "req_1",
    )


async def test_a_chain_that_fell_silent_without_an_end_is_noted(
    engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, engine) as process:
        await process.request("req_1")
        await process.checkpoint()
    await tamper(engine, "DELETE FROM audit_events WHERE sequence > 4")  # the closing checkpoint

    soon = await verified(engine)
    later = await verified(engine, later_seconds=2 * HOUR)

    assert soon.notes == []
    assert later.findings.in_order() == []
    [note] = later.notes
    assert note.startswith(f"{process.writer}: its chain is not closed")
    assert "in the last 2 h" in note


async def test_what_was_erased_is_missed_by_nobody(engine: AsyncEngine, root: Path) -> None:
    async with replica(root, engine) as process:
        await process.request("req_1", said="a secret")
        addresses = process.addresses["req_1"]
        await process.note(
            FrameKind.ERASURE,
            {
                "tenant": "acme",
                "addresses": [addresses["prompt"], addresses["answer"]],
                "reason": "asked for",
                "by": "operator",
            },
        )
        await process.shipped()
        await erase(
            engine, "acme", [bytes.fromhex(addresses[name]) for name in ("prompt", "answer")]
        )

    assert (await verified(engine, root)).findings.in_order() == []


async def test_an_erasure_excuses_what_is_missing_whichever_part_is_verified(
    engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, engine) as process:
        await process.request("req_1", said="a secret")
        await process.shipped()
        address = process.addresses["req_1"]["prompt"]
        before = datetime.now(UTC)
        async with replica(root, engine) as command:
            erasure = {"tenant": "acme", "addresses": [address], "reason": "asked", "by": "me"}
            await command.note(FrameKind.ERASURE, erasure)
        await erase(engine, "acme", [bytes.fromhex(address)])
        after = datetime.now(UTC)
        await process.request("req_2", said="nothing")

    for part in (Part(until=before), Part(since=after)):
        report = await verified(engine, root, part=part)

        assert report.findings.in_order() == []
        assert report.chains == 2


async def test_an_erasure_that_no_event_says_is_found_in_a_part(
    engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, engine) as process:
        await process.request("req_1", said="a secret")
    await erase(engine, "acme", [bytes.fromhex(process.addresses["req_1"]["prompt"])])

    report = await verified(engine, root, part=Part(since=datetime.now(UTC) - timedelta(days=1)))

    assert {each.problem for each in report.findings.in_order()} == {Problem.MESSAGE_ERASED}


async def test_what_was_dropped_and_noted_is_missed_by_nobody(
    engine: AsyncEngine, root: Path
) -> None:
    async with replica(root, engine) as process, replica(root, engine) as dropped:
        await process.request("req_1")
        await process.checkpoint()
        await dropped.request("req_2")
        await process.shipped()
        await dropped.shipped()
        async with engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT writer, sequence, encode(hash, 'hex') FROM audit_events "
                    "WHERE writer = :first AND sequence = 3 OR writer = :other AND sequence = 3"
                ),
                {"first": process.writer, "other": dropped.writer},
            )
            last = {row[0]: [row[1], row[2]] for row in rows}
        await process.note(FrameKind.RETENTION, {"before": "2026-11-01", "chains": last})
    await tamper(engine, "DELETE FROM audit_events WHERE sequence <= 3")
    week = timedelta(days=7)

    for part in (Part(), Part(since=datetime.now(UTC) - week), Part(until=datetime.now(UTC))):
        assert (await verified(engine, root, part=part)).findings.in_order() == []


async def test_what_was_dropped_is_excused_also_when_the_event_that_says_so_is_dropped(
    engine: AsyncEngine, root: Path
) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    keys = KEYS.public_keys

    async def prune() -> str:
        """The writer who records it."""
        chains = await dropped_chains(engine, tomorrow, keys)
        async with replica(root, engine) as process:
            payload = orjson.loads(retention_payload(tomorrow, chains))
            await process.note(FrameKind.RETENTION, payload)
        await tamper(engine, "DELETE FROM audit_events WHERE writer <> :kept", kept=process.writer)
        return process.writer

    async with replica(root, engine) as process:
        await process.request("req_1")
    writers = {process.writer, await prune(), await prune()}

    report = await verified(engine, root)

    assert report.findings.in_order() == []
    assert (await dropped_chains(engine, tomorrow, keys)).keys() == writers


async def test_what_nobody_has_signed_of_what_was_dropped_is_not_carried_on(
    engine: AsyncEngine, root: Path
) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    async with replica(root, engine) as process:
        await process.request("req_1")
    forged = {"before": "2026-01-01", "chains": {"ab" * 16: [9, "00" * 32]}}
    await tamper(
        engine,
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload) "
        "SELECT recorded_at, writer, sequence + 1, 9, hash, convert_to(:forged, 'UTF8') "
        "FROM audit_events ORDER BY sequence DESC LIMIT 1",
        forged=orjson.dumps(forged).decode(),
    )

    found = await dropped_chains(engine, tomorrow, KEYS.public_keys)

    assert found.keys() == {process.writer}


async def test_a_part_of_the_log_is_verified_by_itself(engine: AsyncEngine, root: Path) -> None:
    async with replica(root, engine) as process:
        for number in range(3):
            await process.request(f"req_{number}")
        await process.shipped()
        async with engine.connect() as connection:
            middle = await connection.scalar(
                text("SELECT recorded_at FROM audit_events WHERE sequence = 4")
            )
        await process.checkpoint()
    hour = timedelta(hours=1)

    behind = await verified(engine, root, part=Part(since=middle))
    before = await verified(engine, root, part=Part(until=middle))
    nothing = await verified(engine, root, part=Part(until=middle - hour))
    all_of_it = await verified(engine, root, part=Part(middle - hour, middle + hour))

    assert middle.tzinfo is not None
    assert middle < datetime.now(UTC)
    for report in (behind, before, nothing, all_of_it):
        assert report.findings.in_order() == []
    assert behind.events == 1 + 7 + 2 - 3  # and the one that they follow
    assert before.events == 3 + 5  # and on to the checkpoint that covers them
    assert (nothing.events, all_of_it.events) == (0, 9)


async def test_without_the_key_nothing_is_believed(engine: AsyncEngine, root: Path) -> None:
    async with replica(root, engine) as process:
        await process.request("req_1")

    report = await verified(engine, root, keys=("00" * 32,))

    assert {finding.problem for finding in report.findings.in_order()} == {Problem.FORGED}
