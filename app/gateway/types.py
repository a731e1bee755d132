"""The values that pass between the steps of a request. Frozen: a step makes a new one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = dict[str, Any]  # a JSON object that we built ourselves, from known fields only


@dataclass(frozen=True, slots=True)
class Policy:
    """What a key may do. None means "as the gateway's settings say"."""

    models: tuple[str, ...] | None = None
    max_output_tokens: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, once believed."""

    key_id: str
    tenant: str
    name: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion as asked for, validated and rebuilt from known fields.

    `messages` and `tools` hold only what the wire model names; `sampling` only what the client
    set. `body_bytes` is the size of the JSON text: no prompt has more tokens than that.
    """

    model: str
    messages: tuple[Json, ...]
    body_bytes: int
    stream: bool = False
    include_usage: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Json, ...] = ()
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    response_format: Json | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """What a worker will be asked, but for its own name of the model.

    `max_tokens` is the clamped cap; `max_tokens_explicit` says that the client named it, so that
    it may not be cut silently. `prompt_tokens` is an estimate until `exact`.
    """

    request: ChatRequest
    fields: Json
    max_tokens: int
    max_tokens_explicit: bool
    prompt_tokens: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `exact` is false where we counted because the worker did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    exact: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


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
    parameters: Json = field(default_factory=dict)  # as sent to the worker, without any text
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
    usage: Usage = Usage()
    time_to_first_token_seconds: float | None = None
    duration_seconds: float = 0.0
