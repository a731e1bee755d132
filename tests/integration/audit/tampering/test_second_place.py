"""The file of checkpoints, which whoever owns it may change, too."""

import time

from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import make_checkpoint
from app.audit.verify.findings import Problem
from tests.integration.audit.replica import KEYS
from tests.integration.audit.tampering.log import (
    CUT,
    STRANGER,
    Log,
)


async def test_a_forged_line_of_the_second_place_is_found(log: Log) -> None:
    path = log.root / "checkpoints.jsonl"
    forged = make_checkpoint(
        STRANGER, log.writer, ChainHead(5, b"h" * 32), at=time.time(), previous=None, register=None
    )
    path.write_bytes(path.read_bytes() + forged.payload + b"\n")

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.FORGED, 5)


async def test_a_signed_line_that_says_otherwise_is_believed(log: Log) -> None:
    path = log.root / "checkpoints.jsonl"
    signed = make_checkpoint(
        KEYS, log.writer, ChainHead(3, b"h" * 32), at=time.time(), previous=None, register=None
    )
    path.write_bytes(path.read_bytes() + signed.payload + b"\n")

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.REWRITTEN, 1)


async def test_torn_and_foreign_lines_are_told_and_hide_nothing(log: Log) -> None:
    path = log.root / "checkpoints.jsonl"
    lines = path.read_bytes().splitlines()
    syslog = b"<85>Nov 30 04:00:00 host qwythos-audit: "
    path.write_bytes(
        b"\n".join([b"foreign", lines[0][:50] + lines[0], syslog + lines[1], lines[2][:99]])
    )
    await log.sql(CUT)

    report = await log.verified()

    assert "numbers 1, 4" in report.notes[0]
    assert (await log.first_finding()).problem is Problem.CUT


async def test_a_second_place_that_lacks_what_the_log_has_is_told(log: Log) -> None:
    """Or it could be cut today, and the log tomorrow."""
    path = log.root / "checkpoints.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if log.other.encode() in line))

    report = await log.verified(later_seconds=3600)

    assert report.clean
    (note,) = [each for each in report.notes if "lacks checkpoints" in each]
    assert f"{path.name} lacks checkpoints that the log has, of {log.writer} from event " in note


async def test_a_checkpoint_that_may_be_on_its_way_to_the_second_place_is_not_missed(
    log: Log,
) -> None:
    (log.root / "checkpoints.jsonl").write_bytes(b"")

    report = await log.verified()

    assert report.notes == []
    assert any("lacks" in note for note in (await log.verified(later_seconds=3600)).notes)


async def test_a_whole_second_place_lacks_nothing(log: Log) -> None:
    assert (await log.verified(later_seconds=3600)).notes == []
