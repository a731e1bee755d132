from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.writer import MAX_FINDINGS_BYTES, Batch, bounded_findings
from app.protocol.findings import CallRefusal, Hidden


def intent(request_id: str) -> AuditIntent:
    return AuditIntent(request_id, received_at=1.0, route="/v1/models")


def outcome(request_id: str) -> AuditOutcome:
    return AuditOutcome(request_id, Outcome.COMPLETED, 200)


def test_an_id_with_both_records_is_one_request_and_two_records() -> None:
    batch = Batch({"a": intent("a")}, {"a": outcome("a"), "b": outcome("b")})
    assert batch.request_ids == ["a", "b"]
    assert batch.records == 3


def test_halves_keep_the_records_of_a_request_together() -> None:
    batch = Batch({key: intent(key) for key in "abc"}, {key: outcome(key) for key in "cdea"})
    left, right = batch.halves()
    assert left.request_ids == ["a", "b"]
    assert right.request_ids == ["c", "d", "e"]
    assert left.outcomes.keys() == {"a"}
    assert right.outcomes.keys() == {"c", "d", "e"}
    assert left.records + right.records == batch.records


def test_halving_ends_at_single_requests() -> None:
    batch = Batch({"a": intent("a"), "b": intent("b")}, {})
    assert [half.request_ids for half in batch.halves()] == [["a"], ["b"]]


def test_findings_become_plain_json() -> None:
    findings = bounded_findings({"hidden": {Hidden.MARKUP: 1}, "calls": (CallRefusal.CUT,)})
    assert findings == {"hidden": {"markup": 1}, "calls": ["cut"]}
    assert [type(name) for name in findings["hidden"]] == [str]
    assert type(findings["calls"][0]) is str


def test_findings_beyond_the_bound_only_say_so() -> None:
    assert bounded_findings({"x": "\u6d4b" * MAX_FINDINGS_BYTES}) == {"truncated": True}
