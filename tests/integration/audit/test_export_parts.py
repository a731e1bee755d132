"""An export of a range can be verified, and what it says of its range is not trusted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.erasure import erase
from app.audit.export.query import ExportQuery
from app.audit.export.records import ExportUnreadable
from app.audit.log_reader import Part
from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from tests.integration.audit.exporting import exported, records, two_chains, verified
from tests.integration.audit.replica import TABLES, WHOLE, Replica, replica, tamper


@pytest.fixture
async def log(engine: AsyncEngine, tmp_path: Path) -> Replica:
    return await two_chains(engine, tmp_path / "audit")


async def test_a_part_is_verified_up_to_the_checkpoint_that_covers_it(
    engine: AsyncEngine, tmp_path: Path, log: Replica
) -> None:
    async with engine.connect() as connection:
        wanted = text(
            "SELECT recorded_at FROM audit_events WHERE writer = :writer AND sequence = 4"
        )
        middle = await connection.scalar(wanted, {"writer": log.writer})
    path = await exported(
        engine, tmp_path / "log.jsonl", ExportQuery(Part(until=middle), content=True)
    )

    report = verified(path)

    assert report.findings.in_order() == []
    shown = [each for each in records(path) if each["type"] == "event"]
    assert [each["sequence"] for each in shown] == [1, 2, 3, 4, 5, 6]
    assert ["payload" in each for each in shown] == [True, True, True, False, False, True]


async def test_an_export_of_a_part_has_the_erasures_of_what_is_missing_in_it(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    root = tmp_path / "audit"
    await tamper(engine, f"TRUNCATE {TABLES}")
    async with replica(root, engine) as process:
        await process.request("req_1", said="a secret")
        await process.shipped()
        address = process.addresses["req_1"]["prompt"]
        before = datetime.now(UTC)
        async with replica(root, engine) as command:
            await command.request("req_2", said="of no matter")
            erasure = {"tenant": "acme", "addresses": [address], "reason": "asked for", "by": "me"}
            await command.note(FrameKind.ERASURE, erasure)
        await erase(engine, "acme", [bytes.fromhex(address)])
        after = datetime.now(UTC)

    for name, part in {"until": Part(until=before), "since": Part(since=after)}.items():
        for tenant in (None, "acme"):
            query = ExportQuery(part, tenant=tenant, content=True)
            path = await exported(engine, tmp_path / f"{name}_{tenant}", query, root=root)

            assert verified(path).findings.in_order() == []
            assert b"asked for" in path.read_bytes()
            assert b"req_2" not in path.read_bytes()  # nothing else that is out of the part


async def test_the_first_event_of_a_part_follows_from_the_one_before_it(
    engine: AsyncEngine, tmp_path: Path, log: Replica
) -> None:
    async with engine.connect() as connection:
        wanted = text(
            "SELECT recorded_at FROM audit_events WHERE writer = :writer AND sequence = 4"
        )
        since = await connection.scalar(wanted, {"writer": log.writer})
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(Part(since)))
    untouched = verified(path)
    lines = records(path)
    before, first, *_ = [
        each for each in lines if each.get("writer") == log.writer and "kind" in each
    ]

    assert untouched.findings.in_order() == []
    assert (before["sequence"], first["sequence"]) == (3, 4)
    assert "payload" not in before
    first["payload"] = "{}"
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))

    [finding] = verified(path).findings.in_order()
    assert (finding.problem, finding.sequence) == (Problem.CHANGED, 4)


async def test_what_is_not_shipped_yet_is_not_missed_in_the_file_later(
    engine: AsyncEngine, tmp_path: Path, log: Replica
) -> None:
    """The second place has a checkpoint before the database has its event."""
    statement = (
        "INSERT INTO audit_spool_offsets (writer, segment, offset_bytes, sequence, hash) "
        "SELECT writer, 1, 0, sequence, hash FROM audit_events "
        "WHERE writer = :writer AND sequence = 6"
    )
    await tamper(
        engine,
        "DELETE FROM audit_events WHERE writer = :writer AND sequence > 6",
        "DELETE FROM audit_events WHERE writer <> :writer",
        "TRUNCATE audit_register, audit_spool_offsets",
        statement,
        writer=log.writer,
    )
    own = tmp_path / "audit" / "checkpoints.jsonl"
    lines = own.read_bytes().splitlines(keepends=True)
    own.write_bytes(b"".join(each for each in lines if log.writer.encode() in each))
    path = await exported(
        engine, tmp_path / "log.jsonl", ExportQuery(WHOLE), root=tmp_path / "audit"
    )
    a_day_later = datetime.now(UTC).timestamp() + 24 * 3600

    report = verified(path, now=a_day_later)

    assert Problem.CUT not in {each.problem for each in report.findings.in_order()}
    assert [each["type"] for each in records(path)].count("checkpoint") == 1


async def test_an_end_that_was_cut_off_is_found_whatever_range_the_file_says_it_has(
    engine: AsyncEngine, tmp_path: Path, log: Replica
) -> None:
    """Its manifest is signed by nobody."""
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE))
    lines = records(path)
    cut = [
        each
        for each in lines
        if each["type"] != "event" or (each["writer"] == log.writer and each["sequence"] < 5)
    ]
    cut[0]["until"] = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    cut[0]["shipped"] = {}
    cut[-1]["events"] = sum(1 for each in cut if each["type"] == "event")
    path.write_bytes(b"\n".join(map(orjson.dumps, cut)))

    report = verified(path, checkpoints=tmp_path / "audit" / "checkpoints.jsonl")

    found = {(each.writer == log.writer, each.problem) for each in report.findings.in_order()}
    assert {(True, Problem.CUT), (False, Problem.VANISHED)} <= found


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("value", ["yesterday", "2026-11-01T00:00:00", "9999-12-31T23:58:00Z", 5])
@pytest.mark.usefixtures("log")
async def test_a_range_that_is_none_makes_it_no_export(
    engine: AsyncEngine, tmp_path: Path, name: str, value: object
) -> None:
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE))
    lines = records(path)
    lines[0][name] = value
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))

    with pytest.raises(ExportUnreadable, match="a range from or to"):
        verified(path)
