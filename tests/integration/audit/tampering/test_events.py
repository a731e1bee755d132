"""Events that were edited, deleted, inserted, moved: the first bad one is named."""

import pytest

from app.audit.verify.findings import Problem
from tests.integration.audit.tampering.edits import EDITS
from tests.integration.audit.tampering.log import (
    CLOSING,
    Log,
    cancelled,
    rehash,
)


async def test_an_untouched_log_is_clean(log: Log) -> None:
    report = await log.verified()

    assert report.findings.in_order() == []
    assert report.events == CLOSING + 4


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_is_found_and_named(log: Log, edit: str) -> None:
    statement, problem, sequence, request_id = EDITS[edit]

    await log.sql(statement)

    finding = await log.first_finding()
    assert (finding.problem, finding.sequence, finding.request_id) == (
        problem,
        sequence,
        request_id,
    )
    report = await log.verified()
    assert {each.writer for each in report.findings.first} <= {log.writer, log.other}


async def test_two_events_that_were_swapped_are_found(log: Log) -> None:
    await log.sql(
        "UPDATE audit_events SET sequence = -1 WHERE writer = :writer AND sequence = 3",
        "UPDATE audit_events SET sequence = 3 WHERE writer = :writer AND sequence = 5",
        "UPDATE audit_events SET sequence = 5 WHERE writer = :writer AND sequence = -1",
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.CHANGED, 3)


async def test_one_whose_hash_was_changed_with_it_is_found_by_the_next(log: Log) -> None:
    await rehash(log, cancelled, until=3)
    await log.sql(
        "UPDATE audit_events SET outcome = 'cancelled' WHERE writer = :writer AND sequence = 3"
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.CHANGED, 4)
    assert "the one before it" in finding.what
