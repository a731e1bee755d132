"""Chains that were cut, deleted, set back, made up."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import GENESIS, ChainHead, link
from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from tests.integration.audit.replica import TABLES, replica, tamper, verified
from tests.integration.audit.tampering.log import (
    CLOSING,
    CUT,
    Log,
)


async def test_an_end_that_was_cut_off_is_found_by_the_second_place(log: Log) -> None:
    await log.sql(CUT, "DELETE FROM audit_register WHERE writer = :other")

    finding = await log.first_finding()

    assert finding.problem in (Problem.CUT, Problem.REGISTER)
    cut = [
        each for each in (await log.verified()).findings.in_order() if each.problem is Problem.CUT
    ]
    assert [(each.writer, each.sequence) for each in cut] == [(log.writer, 6)]


async def test_an_end_that_was_cut_off_is_found_by_what_the_register_witnessed(log: Log) -> None:
    await log.sql(CUT)

    finding = await log.first_finding(second_place=False)

    assert (finding.problem, finding.sequence) == (Problem.CUT, 6)
    assert "row 2 of the register" in finding.what


async def test_a_closing_checkpoint_that_was_cut_off_is_found(log: Log) -> None:
    await log.sql("DELETE FROM audit_events WHERE writer = :writer AND sequence = 11")

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.CUT, CLOSING)


async def test_what_is_not_yet_shipped_is_no_finding_until_it_is_late(log: Log) -> None:
    """The database says that a spool is shipped up to event 5; the second place has seen 10."""
    await log.sql(
        CUT,
        "INSERT INTO audit_spool_offsets (writer, segment, offset_bytes, sequence, hash) "
        "SELECT writer, 1, 0, sequence, hash FROM audit_events "
        "WHERE writer = :writer AND sequence = 5",
        "TRUNCATE audit_register",
    )

    soon = await log.verified()
    late = await log.verified(later_seconds=600)

    assert Problem.CUT not in {each.problem for each in soon.findings.in_order()}
    assert "not in the database yet" in soon.notes[0]
    assert (Problem.CUT, 6) in {(each.problem, each.sequence) for each in late.findings.in_order()}


@pytest.mark.parametrize("second_place", [True, False])
async def test_a_chain_that_was_deleted_whole_is_found(log: Log, second_place: bool) -> None:
    await log.sql("DELETE FROM audit_events WHERE writer = :writer")

    finding = await log.first_finding(second_place=second_place)

    assert (finding.problem, finding.sequence) == (Problem.VANISHED, 1)


async def test_a_chain_that_was_deleted_with_its_registration_is_found(log: Log) -> None:
    await log.sql(
        "DELETE FROM audit_events WHERE writer = :other",
        "DELETE FROM audit_register WHERE writer = :other",
        "DELETE FROM audit_spool_offsets",
    )

    report = await log.verified()

    assert (log.other, Problem.VANISHED) in {
        (each.writer, each.problem) for each in report.findings.in_order()
    }


async def test_a_whole_log_that_was_deleted_is_found_by_the_second_place(log: Log) -> None:
    await log.sql(f"TRUNCATE {TABLES}")

    report = await log.verified()

    vanished = {each.writer for each in report.findings.first if each.problem is Problem.VANISHED}
    assert vanished == {log.writer, log.other}


async def test_a_database_that_was_set_back_is_found(engine: AsyncEngine, tmp_path: Path) -> None:
    root = tmp_path / "audit"
    await tamper(engine, f"TRUNCATE {TABLES}")
    names = TABLES.split(", ")
    async with replica(root, engine) as process:
        await process.request("req_1")
        await process.checkpoint()
        await process.shipped()
        await tamper(engine, *(f"CREATE TABLE kept_{name} AS TABLE {name}" for name in names))
        await process.request("req_2")
    await tamper(engine, f"TRUNCATE {TABLES}")
    for name in names:
        await tamper(engine, f"INSERT INTO {name} TABLE kept_{name}", f"DROP TABLE kept_{name}")
    assert (await verified(engine)).findings.in_order() == []  # nothing in it says so

    report = await verified(engine, root, later_seconds=600)

    [finding] = report.findings.first
    assert (finding.problem, finding.writer, finding.sequence) == (Problem.CUT, process.writer, 5)


async def test_a_chain_that_somebody_made_up_is_never_covered(log: Log) -> None:
    """With the rights of the gateway, who may insert: all hashes fit, and no key has signed it."""
    made_up = "f" * 32
    at = 1_700_000_000_000_000
    head = link(GENESIS, FrameKind.REGISTRATION, at, b"{}")
    await log.sql(
        "SELECT audit_make_partitions('2023-11-14', '2023-11-14')",
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload) "
        "VALUES ('2023-11-14 22:13:20Z', :made_up, 1, 7, :hash, :payload)",
        made_up=made_up,
        hash=head.hash,
        payload=b"{}",
    )

    report = await log.verified()

    problems = {each.problem for each in report.findings.in_order() if each.writer == made_up}
    assert problems == {Problem.UNREGISTERED, Problem.UNPROVEN}


async def test_what_follows_a_closed_chain_is_found(log: Log) -> None:
    async with log.engine.connect() as connection:
        row = (
            await connection.execute(
                text("SELECT hash FROM audit_events WHERE writer = :writer AND sequence = 11"),
                {"writer": log.writer},
            )
        ).one()
    head = link(ChainHead(CLOSING, row.hash), FrameKind.INTENT, 1_700_000_000_000_000, b"{}")
    await log.sql(
        "SELECT audit_make_partitions('2023-11-14', '2023-11-14')",
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload) "
        "VALUES ('2023-11-14 22:13:20Z', :writer, 12, 1, :hash, :payload)",
        hash=head.hash,
        payload=b"{}",
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.AFTER_THE_END, 12)
