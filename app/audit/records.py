"""What the audit log keeps of a request: an intent before the worker, an outcome after."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from app.protocol.events import Usage


class Outcome(StrEnum):
    """How a request ended. Every request that reached authentication ends in exactly one."""

    COMPLETED = "completed"
    REFUSED = "refused"  # by us, before a worker was asked
    FAILED = "failed"  # by the worker, before or after the first byte
    CANCELLED = "cancelled"  # by the client, who left
    DRAINED = "drained"  # by us, at the end of the drain
    CRASHED = "crashed"  # by a defect of ours


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


class AuditLog(Protocol):
    """Where the pipeline writes. Both calls return once the record outlives the process, or raise
    GatewayError: a request without an intent reaches no worker, and no terminal marker leaves
    before the outcome is written."""

    @property
    def accepting(self) -> bool:
        """Whether new requests can be recorded."""

    async def intent(self, record: AuditIntent) -> None: ...

    async def outcome(self, record: AuditOutcome) -> None: ...

    async def whole(self, intent: AuditIntent, outcome: AuditOutcome) -> None:
        """Of a request that ended without a worker: both or neither."""
