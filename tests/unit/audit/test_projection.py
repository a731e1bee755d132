"""The columns of an event."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.projection import COLUMNS, columns_of, moment
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.store.tables import audit_events

NOTHING = dict.fromkeys(COLUMNS)
INTENT = AuditIntent(
    "req_1", 1_790_000_000.25, "/v1/models", key_id="key_1", tenant="acme", model="qwythos"
)
OUTCOME = AuditOutcome(
    "req_1",
    Outcome.FAILED,
    502,
    error_code="worker_failed",
    charged_tokens=2**40,
    settled_at=1_790_000_002.123457,
    received_at=1_790_000_000.25,
    key_id="key_1",
    tenant="acme",
    model="qwythos",
    content={"conversation": "ab" * 32, "answers": {}},
)
OF_REQUEST = {
    "request_id": "req_1",
    "received_at": datetime(2026, 9, 21, 14, 13, 20, 250000, UTC),
    "key_id": "key_1",
    "tenant": "acme",
    "model": "qwythos",
}


def of_outcome(**values: Any) -> dict[str, Any]:
    return columns_of(FrameKind.OUTCOME, json.dumps(values).encode())


def test_all_columns_behind_the_payload_are_projected() -> None:
    assert list(audit_events.c.keys())[-len(COLUMNS) :] == list(COLUMNS)
    assert audit_events.c.keys()[-len(COLUMNS) - 1] == "payload"


def test_an_intent_is_found_by_whose_it_is() -> None:
    assert columns_of(FrameKind.INTENT, encode_intent(INTENT)) == NOTHING | OF_REQUEST


def test_an_outcome_is_found_by_itself() -> None:
    assert columns_of(FrameKind.OUTCOME, encode_outcome(OUTCOME)) == NOTHING | OF_REQUEST | {
        "conversation": "ab" * 32,
        "outcome": "failed",
        "status": 502,
        "error_code": "worker_failed",
        "charged_tokens": 2**40,
        "settled_at": datetime(2026, 9, 21, 14, 13, 22, 123457, UTC),
    }


def test_an_erasure_is_found_by_its_tenant_alone() -> None:
    payload = b'{"tenant":"acme","addresses":[],"reason":"asked","by":"root","model":"x"}'
    assert columns_of(FrameKind.ERASURE, payload) == NOTHING | {"tenant": "acme"}


@pytest.mark.parametrize(
    "kind", [FrameKind.CHECKPOINT, FrameKind.REGISTRATION, FrameKind.RETENTION, 200]
)
def test_other_events_have_no_columns(kind: int) -> None:
    assert columns_of(kind, encode_outcome(OUTCOME)) == NOTHING


@pytest.mark.parametrize(
    "payload", [b"", b"no JSON", b"[]", b"null", b"\xff\x00", b'{"a": 1', b"7"]
)
def test_a_payload_that_cannot_be_read_has_no_columns(payload: bytes) -> None:
    for kind in (FrameKind.INTENT, FrameKind.OUTCOME, FrameKind.ERASURE):
        assert columns_of(kind, payload) == NOTHING


def test_texts_are_cut_to_the_width_of_their_columns() -> None:
    names = ("request_id", "key_id", "tenant", "model", "outcome", "error_code")
    columns = of_outcome(**dict.fromkeys(names, "\N{SNOWMAN}" * 999))
    for name in names:
        assert columns[name] == "\N{SNOWMAN}" * audit_events.c[name].type.length  # type: ignore[attr-defined]  # a String's


def test_what_postgres_has_in_no_text_is_replaced() -> None:
    assert of_outcome(model="a\0b")["model"] == "a\ufffdb"


@pytest.mark.parametrize(
    "values",
    [
        {"status": 2**31, "charged_tokens": 2**63},
        {"status": -(2**31) - 1, "charged_tokens": -(2**63) - 1},
        {"status": True, "charged_tokens": 1.0},
        {"status": "200", "charged_tokens": None},
        {"received_at": "now", "settled_at": True},
        {"received_at": 1e18, "settled_at": -1e18},
        {"received_at": 0, "settled_at": 0.0},
        {"key_id": 7, "tenant": ["acme"], "model": {}, "content": "none"},
        {"content": {"conversation": 7}},
        {"content": []},
    ],
)
def test_a_value_that_a_column_cannot_hold_is_null(values: dict[str, Any]) -> None:
    assert of_outcome(**values) == NOTHING


def test_the_largest_numbers_are_kept() -> None:
    columns = of_outcome(status=2**31 - 1, charged_tokens=2**63 - 1)
    assert (columns["status"], columns["charged_tokens"]) == (2**31 - 1, 2**63 - 1)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(1, 4_102_444_800_000_000))  # to the year 2100
def test_a_time_is_exact_to_the_microsecond(microseconds: int) -> None:
    expected = EPOCH + timedelta(microseconds=microseconds)
    assert moment(expected.timestamp()) == expected
    outcome = replace(OUTCOME, settled_at=microseconds / 1e6)
    columns = columns_of(FrameKind.OUTCOME, encode_outcome(outcome))
    assert columns["settled_at"] == expected


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 1e12, -1e12])
def test_no_date_is_an_error_of_its_own(seconds: float) -> None:
    with pytest.raises(ValueError):
        moment(seconds)


@given(st.sampled_from([1, 2, 8]), st.binary(max_size=64))
def test_no_payload_makes_it_fail(kind: int, payload: bytes) -> None:
    assert columns_of(kind, payload).keys() == set(COLUMNS)
