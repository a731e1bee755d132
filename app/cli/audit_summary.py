"""The record of a request in a few lines: who asked, when, for what, and how it ended."""

import json
from collections.abc import Iterator

from app.audit.row import AuditRow
from app.cli.moments import second


def summary(record: AuditRow) -> Iterator[tuple[str, object]]:
    """Names and values; what is not known, or does not apply, is left out."""
    yield "request", record.request_id
    yield "asked", _asked(record)
    if record.user_agent is not None:
        yield "agent", record.user_agent
    if record.client_request_id is not None:
        yield "client's id", record.client_request_id
    yield "for", _wanted(record)
    yield "ended", "not yet" if record.outcome is None else _ended(record)
    if record.prompt_tokens or record.completion_tokens:
        yield "tokens", _tokens(record)
    if record.findings:
        yield "findings", json.dumps(record.findings, sort_keys=True)
    if record.level is not None:
        yield "kept", record.level
    if record.conversation is not None:
        yield "conversation", record.conversation
    yield "recorded", f"event {record.sequence} of {record.writer}"


def _asked(record: AuditRow) -> str:
    parts = [second(record.received_at) or "at an unknown time"]
    if record.key_id is not None:
        parts.append(f"by {record.key_id} of {record.tenant}")
    if record.client_ip is not None:
        parts.append(f"from {record.client_ip}")
    return " ".join(parts)


def _wanted(record: AuditRow) -> str:
    parts = [f"{record.model or 'no model'} at {record.route}"]
    if record.body_bytes:
        parts.append(f"{record.body_bytes} bytes")
    if record.stream:
        parts.append("streamed")
    return ", ".join(parts)


def _ended(record: AuditRow) -> str:
    why = [record.status, record.error_code, record.finish_reason]
    parts = [f"{record.outcome} ({', '.join(str(each) for each in why if each is not None)})"]
    if record.duration_seconds:  # 0 is how long a process ran that nobody saw end
        parts.append(f"after {record.duration_seconds:.2f} s")
    if record.time_to_first_token_seconds is not None:
        parts.append(f"first token after {record.time_to_first_token_seconds:.2f} s")
    if record.worker is not None:
        tries = "" if (record.attempts or 1) == 1 else f" at attempt {record.attempts}"
        parts.append(f"on {record.worker}{tries}")
    return ", ".join(parts)


def _tokens(record: AuditRow) -> str:
    text = (
        f"{record.prompt_tokens} asked ({record.cached_tokens} cached), "
        f"{record.completion_tokens} answered ({record.reasoning_tokens} of them thought)"
    )
    if not record.usage_exact:
        text += ", estimated"
    return text if record.charged_tokens is None else f"{text}, {record.charged_tokens} charged"
