"""One request as the audit log has it: its intent and its outcome, read together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """`outcome` and what follows it are None while the request runs, or until what a crash has left
    is recovered; `charged_tokens` and `settled_at` also where nothing was taken from a budget.

    `recorded_at`, `writer` and `sequence` are those of the outcome's event, or of the intent's
    where there is no other. `content` has the addresses of what was asked and answered, None where
    no text is kept; `conversation` is the one among them that all turns of a conversation share.

    A payload that cannot be read, or a value in it that is none, shows as if it were not there:
    `gateway audit verify` says what is wrong with it.
    """

    request_id: str
    received_at: datetime | None
    route: str | None
    key_id: str | None
    tenant: str | None
    model: str | None
    stream: bool | None
    body_bytes: int | None
    parameters: dict[str, Any]
    client_ip: str | None
    user_agent: str | None
    client_request_id: str | None
    level: str | None
    outcome: str | None
    status: int | None
    error_code: str | None
    finish_reason: str | None
    worker: str | None
    attempts: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    usage_exact: bool | None
    time_to_first_token_seconds: float | None
    duration_seconds: float | None
    findings: dict[str, Any]
    charged_tokens: int | None
    settled_at: datetime | None
    content: dict[str, Any] | None
    conversation: str | None
    recorded_at: datetime
    writer: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Event:
    """Where an event of a request stands in the log."""

    request_id: str
    recorded_at: datetime
    writer: str
    sequence: int


def row_of(last: Event, intent: bytes | None, outcome: bytes | None) -> AuditRow:
    """`last` is the event of the outcome, or else of the intent. None for what is not there."""
    asked, ended = _document(intent), _document(outcome)
    both = asked | {name: value for name, value in ended.items() if name not in asked}
    usage = _value(ended, "usage", dict) or {}
    content = _value(ended, "content", dict)
    return AuditRow(
        request_id=last.request_id,
        received_at=_moment(both, "received_at"),
        route=_value(both, "route", str),
        key_id=_value(both, "key_id", str),
        tenant=_value(both, "tenant", str),
        model=_value(both, "model", str),
        stream=_value(asked, "stream", bool),
        body_bytes=_value(asked, "body_bytes", int),
        parameters=_value(asked, "parameters", dict) or {},
        client_ip=_value(asked, "client_ip", str),
        user_agent=_value(asked, "user_agent", str),
        client_request_id=_value(asked, "client_request_id", str),
        level=_value(asked, "level", str),
        outcome=_value(ended, "outcome", str),
        status=_value(ended, "status", int),
        error_code=_value(ended, "error_code", str),
        finish_reason=_value(ended, "finish_reason", str),
        worker=_value(ended, "worker", str),
        attempts=_value(ended, "attempts", int),
        prompt_tokens=_value(usage, "prompt_tokens", int),
        completion_tokens=_value(usage, "completion_tokens", int),
        reasoning_tokens=_value(usage, "reasoning_tokens", int),
        cached_tokens=_value(usage, "cached_tokens", int),
        usage_exact=_value(usage, "exact", bool),
        time_to_first_token_seconds=_number(ended, "time_to_first_token_seconds"),
        duration_seconds=_number(ended, "duration_seconds"),
        findings=_value(ended, "findings", dict) or {},
        charged_tokens=_value(ended, "charged_tokens", int),
        settled_at=_moment(ended, "settled_at"),
        content=content,
        conversation=_value(content or {}, "conversation", str),
        recorded_at=last.recorded_at,
        writer=last.writer,
        sequence=last.sequence,
    )


def _document(payload: bytes | None) -> dict[str, Any]:
    try:
        document = orjson.loads(payload or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _value(document: Mapping[str, Any], name: str, kind: type[Value]) -> Value | None:
    value = document.get(name)
    if isinstance(value, bool) and kind is not bool:
        return None
    return value if isinstance(value, kind) else None


def _number(document: Mapping[str, Any], name: str) -> float | None:
    whole = _value(document, name, int)
    return _value(document, name, float) if whole is None else float(whole)


def _moment(document: Mapping[str, Any], name: str) -> datetime | None:
    seconds = _number(document, name)
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # beyond what a date can be
        return None
