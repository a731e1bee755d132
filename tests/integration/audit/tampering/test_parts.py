"""What is deleted is found also where only the last days are verified."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.audit.log_reader import Part
from app.audit.verify.findings import Problem, Report
from tests.integration.audit.tampering.log import CUT, Log

OF_A_WEEK = timedelta(days=7)


async def verified_since(log: Log, since: datetime, *, second_place: bool = True) -> Report:
    part = Part(since=since)
    return await log.verified(second_place=second_place, later_seconds=600, part=part)


async def recorded_at(log: Log, sequence: int) -> datetime:
    wanted = text(
        "SELECT recorded_at FROM audit_events WHERE writer = :writer AND sequence = :sequence"
    )
    async with log.engine.connect() as connection:
        values = {"writer": log.writer, "sequence": sequence}
        found: datetime = (await connection.execute(wanted, values)).scalar_one()
        return found


def problems(report: Report) -> set[tuple[str | None, Problem, int | None]]:
    return {(each.writer, each.problem, each.sequence) for each in report.findings.first}


async def test_an_untouched_part_is_clean(log: Log) -> None:
    report = await verified_since(log, datetime.now(UTC) - OF_A_WEEK)

    assert report.findings.in_order() == []
    [note] = report.notes
    assert note.startswith("Only a part of the log was verified.")


@pytest.mark.parametrize(
    ("deed", "problem", "sequence"),
    [
        (CUT, Problem.CUT, 6),
        ("DELETE FROM audit_events WHERE writer = :writer", Problem.VANISHED, 1),
        ("DELETE FROM audit_events WHERE writer = :writer AND sequence < 6", Problem.MISSING, 1),
        ("TRUNCATE audit_events", Problem.VANISHED, 1),
    ],
    ids=["its end", "a chain", "its beginning", "all"],
)
@pytest.mark.parametrize("second_place", [True, False])
async def test_what_is_gone_of_the_last_days_is_found(
    log: Log, deed: str, problem: Problem, sequence: int, second_place: bool
) -> None:
    """Without a second place by the register: it knows when the chains began."""
    await log.sql(deed)

    report = await verified_since(log, datetime.now(UTC) - OF_A_WEEK, second_place=second_place)

    assert (log.writer, problem, sequence) in problems(report)


async def test_all_that_is_gone_with_its_register_is_found_by_the_second_place(log: Log) -> None:
    since = datetime.now(UTC) - OF_A_WEEK
    await log.sql("TRUNCATE audit_events", "TRUNCATE audit_register")

    report = await verified_since(log, since)

    assert Problem.REGISTER in {each.problem for each in report.findings.first}


async def test_an_event_before_the_first_of_the_part_is_missed(log: Log) -> None:
    since = await recorded_at(log, 5)
    await log.sql("DELETE FROM audit_events WHERE writer = :writer AND sequence IN (4, 5)")

    report = await verified_since(log, since)

    assert (log.writer, Problem.MISSING, 5) in problems(report)


async def test_an_edit_of_the_first_event_of_the_part_is_found(log: Log) -> None:
    since = await recorded_at(log, 4)
    await log.sql("UPDATE audit_events SET payload = '{}' WHERE writer = :writer AND sequence = 4")

    report = await verified_since(log, since)

    assert (log.writer, Problem.CHANGED, 4) in problems(report)
