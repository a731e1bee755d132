"""What the audit log keeps of a request: an intent before the worker, an outcome after."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.protocol.events import Usage


class Outcome(StrEnum):
    """How a request ended. Every request that reached authentication ends in exactly one."""

    COMPLETED = "completed"
    REFUSED = "refused"  # by us, before a worker was asked
    FAILED = "failed"  # by the worker, before or after the first byte
    CANCELLED = "cancelled"  # by the client, who left
    DRAINED = "drained"  # by us, at the end of the drain
    CRASHED = "crashed"  # by a defect of ours


class AuditLevel(StrEnum):
    """What is kept of a request."""

    METADATA = "metadata"  # no text of it or of its answer
    FULL = "full"
    FULL_AND_REASONING = "full+reasoning"  # the thought, too, whether its client may see it or not


@dataclass(frozen=True, slots=True)
class AuditIntent:
    """Known before a worker is asked. Times are wall-clock seconds since the epoch."""

    request_id: str
    received_at: float
    route: str
    key_id: str | None = None
    tenant: str | None = None
    model: str | None = None
    stream: bool | None = None
    body_bytes: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)  # as sent to the worker, no text
    client_ip: str | None = None
    user_agent: str | None = None
    client_request_id: str | None = None
    level: AuditLevel = AuditLevel.FULL


@dataclass(frozen=True, slots=True)
class AuditOutcome:
    """Known at the end. Durations are seconds from the reception of the request's headers."""

    request_id: str
    outcome: Outcome
    status: int
    error_code: str | None = None
    finish_reason: str | None = None
    worker: str | None = None
    attempts: int = 0
    usage: Usage = field(default_factory=Usage)
    time_to_first_token_seconds: float | None = None
    duration_seconds: float = 0.0
    # What was done to the request and its answer, and why: names and counts, no text of either.
    findings: dict[str, Any] = field(default_factory=dict)
    # What was taken from the budgets of the key and of its tenant, and when, in wall-clock seconds
    # since the epoch; None where nothing was.
    charged_tokens: int | None = None
    settled_at: float | None = None
    # As the intent says it, so that an outcome can be searched for by itself.
    received_at: float = 0.0
    route: str = ""
    key_id: str | None = None
    tenant: str | None = None
    model: str | None = None
    # Addresses of what was asked and answered: see `app.audit.content`. None: no text is kept.
    content: dict[str, Any] | None = None
