"""Checkpoints of the second place, read back."""

import io

from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import make_checkpoint
from app.audit.verify.findings import Report
from app.audit.verify.published import PublishedCheckpoints
from tests.unit.audit.verify.log import KEYS, WRITER


def line(sequence: int, *, writer: str = WRITER, closed: bool = False) -> bytes:
    head = ChainHead(sequence, bytes([sequence]) * 32)
    made = make_checkpoint(
        KEYS,
        writer,
        head,
        at=sequence,
        previous=None,
        register=(sequence, head.hash),
        closed=closed,
    )
    return made.payload + b"\n"


def published(data: bytes, report: Report | None = None) -> PublishedCheckpoints:
    return PublishedCheckpoints(io.BytesIO(data), KEYS.public_keys, report or Report(), "the file")


def test_they_come_by_writer_and_sequence_whatever_their_order() -> None:
    other = "cd" * 16
    found = published(line(7) + line(2, writer=other) + line(5, closed=True) + line(6))

    statements = list(found.statements(WRITER))

    assert [each.head.sequence for each in statements] == [5, 6, 7]
    assert [each.closed for each in statements] == [True, False, False]
    assert all(each.signed for each in statements)
    assert [each.head.sequence for each in found.statements(other)] == [2]
    assert sorted(found.writers) == [WRITER, other]
    assert found.register == {n: bytes([n]) * 32 for n in (2, 5, 6, 7)}


def test_of_a_writer_that_is_not_there_there_are_none() -> None:
    assert list(published(line(1)).statements("ef" * 16)) == []
    assert list(published(b"").statements(WRITER)) == []


def test_a_very_long_line_is_taken_in_pieces_and_hides_nothing() -> None:
    report = Report()

    found = published(b"x" * 1_000_000 + b"\n" + line(1), report)

    assert [each.head.sequence for each in found.statements(WRITER)] == [1]
    assert "no checkpoints" in report.notes[0]


def test_a_number_that_no_chain_has_is_no_checkpoint() -> None:
    report = Report()
    forged = line(1).replace(b'"sequence":1', b'"sequence":%d' % 2**63)

    found = published(forged + line(1), report)

    assert [each.head.sequence for each in found.statements(WRITER)] == [1]
    assert "numbers 1" in report.notes[0]
