"""Which requests of a spool have not ended."""

import pytest

from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import FrameKind
from app.audit.spool.open_intents import OpenIntents
from app.audit.spool.payloads import PayloadUnreadable, encode_intent, encode_outcome


def fed(*records: str) -> OpenIntents:
    """`"1+a"`: in segment 1, the intent of a; `"2-a"`: in segment 2, its outcome."""
    intents = OpenIntents()
    for record in records:
        segment, request_id = int(record[0]), record[2:]
        if record[1] == "+":
            payload = encode_intent(AuditIntent(request_id, 0.0, "/r"))
            intents.feed(segment, FrameKind.INTENT, payload)
        else:
            payload = encode_outcome(AuditOutcome(request_id, Outcome.COMPLETED, 200))
            intents.feed(segment, FrameKind.OUTCOME, payload)
    return intents


def test_an_intent_is_open_until_its_outcome() -> None:
    assert fed().request_ids == []
    assert fed("1+a", "1+b").request_ids == ["a", "b"]
    assert fed("1+a", "1+b", "1-a").request_ids == ["b"]
    assert fed("1+a", "1+b", "1-a", "3-b").request_ids == []


def test_an_outcome_without_its_intent_is_none_of_them() -> None:
    assert fed("5-a", "5+b").request_ids == ["b"]


def test_a_record_that_was_written_again_opens_nothing_that_has_ended() -> None:
    assert fed("1+a", "1-a", "2+a", "2-a").request_ids == []
    # The process died before it could write the outcome again.
    assert fed("1+a", "1-a", "2+a").request_ids == []
    assert fed("1+a", "1-a", "1+a").request_ids == []
    assert fed("1+a", "1-a", "4+a").request_ids == []  # segments between held nothing
    assert fed("1+a", "1+b", "2+a").request_ids == ["a", "b"]
    assert fed("1+a", "2+a", "2-a", "2-a").request_ids == []


def test_what_has_ended_is_not_remembered_for_ever() -> None:
    intents = fed(*(f"{segment}-{segment}x" for segment in range(9)))
    assert sum(len(part) for part in (intents._ended, intents._ended_before)) == 2


def test_a_record_without_a_request_is_refused() -> None:
    for kind in FrameKind:
        with pytest.raises(PayloadUnreadable):
            OpenIntents().feed(1, kind, b"{}")
