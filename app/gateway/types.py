"""The values that pass between the steps of a request, and the two ends that a call has.

The values are frozen: a step makes a new one.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from app.errors import GatewayError
from app.limits.subjects import Standing
from app.protocol.domains import Domain, Verdict
from app.protocol.events import Usage, Visible
from app.protocol.filters.rule import Action, Hit
from app.protocol.prefix import KnownPrefix, Prefix
from app.protocol.request import ChatRequest, Json
from app.protocol.rules import AnswerRules
from app.protocol.token_estimate import TextProfile
from app.rules.rulebook import Profile
from app.store.policy import NO_LIMITS, DomainAction, Limits, Policy
from app.store.tenant import AuditOnFailure
from app.telemetry.trace_context import TraceHeaders
from app.upstream.turn import Waiting

# Of a request, one by one: a prompt of megabytes may have hundreds of thousands.
MAX_LISTED_HITS = 256


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, once believed. `policy` is the effective one: the key's own over its plan's.
    `tenant_limits` bound all keys of the tenant together; `audit_on_failure` says whether its
    requests go on while they cannot be recorded."""

    key_id: str
    tenant: str
    name: str
    policy: Policy
    tenant_limits: Limits = NO_LIMITS
    audit_on_failure: AuditOnFailure = "closed"


class Rescue(StrEnum):
    """A second try: the answer gone on with behind its thought, or asked for again."""

    SALVAGE = "salvage"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class PromptEstimate:
    """What can be said of a prompt that no worker has seen, and from what: the answer will show
    how right it was. `conversation` is the same in every replica, for each turn of it."""

    prompt_tokens: int
    cached_tokens: int
    profile: TextProfile
    prefix: Prefix
    known: Mapping[str, KnownPrefix]  # by worker
    conversation: bytes = b""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """What a worker will be asked, but for its own name of the model, and how it is read.

    `prompt_tokens` is a worker's count where `exact`, else an estimate; of them, `cached_tokens`
    are those that a worker will probably find in its prefix cache. `needed_tokens` is what a
    worker's context has to hold; 0 where nobody can say. `fields` carries the clamped `max_tokens`.
    `adjusted` is what we changed of what the client set; `salvage_tokens` may be added to an answer
    whose thought used up all of its own; with `seal` the thought goes back encrypted.
    """

    request: ChatRequest
    fields: Json
    max_tokens: int
    prompt_tokens: int
    needed_tokens: int
    exact: bool
    cached_tokens: int = 0  # 0: cold
    estimate: PromptEstimate | None = None
    rules: AnswerRules = field(default_factory=AnswerRules)
    adjusted: Mapping[str, float] = field(default_factory=dict)
    call_required: bool = False  # `tool_choice` is `required`, or names a tool
    salvage_tokens: int | None = None
    seal: bool = False
    rescue: Rescue | None = None  # why this is asked after something else was

    @property
    def cold_tokens(self) -> int:
        """What a worker will have to read."""
        return self.prompt_tokens - self.cached_tokens


@dataclass(frozen=True, slots=True)
class PromptHit:
    """`where` is the field of the client's request; places are those in the one string."""

    where: str
    hit: Hit


@dataclass(frozen=True, slots=True)
class Screened:
    """The request as it may go on, under the profile that will filter its answer too.

    With a `refusal` it may not. `hits` are the first MAX_LISTED_HITS, `counts` are all of them, by
    rule and action. `domains` are those that were found and not simply allowed.
    """

    request: ChatRequest
    profile: Profile
    hits: tuple[PromptHit, ...] = ()
    counts: Mapping[tuple[str, Action], int] = field(default_factory=dict)
    domains: Mapping[Domain, Verdict] = field(default_factory=dict)
    domain_actions: Mapping[Domain, DomainAction] = field(default_factory=dict)
    refusal: GatewayError | None = None

    @property
    def annotations(self) -> tuple[str, ...]:
        """The domains that the client is told of."""
        return tuple(d for d, action in self.domain_actions.items() if action == "annotate")


@dataclass(frozen=True, slots=True)
class Caller:
    """What arrived beside the request, believed or not."""

    request_id: str
    route: str
    method: str
    received_at: float  # wall-clock seconds since the epoch
    started_at: float  # monotonic seconds
    client_ip: str | None = None
    user_agent: str | None = None
    client_request_id: str | None = None
    retry_count: str | None = None
    idempotency_key: str | None = None
    patience_seconds: float | None = None  # how long it waits for an answer that is not streamed


class Answer(Protocol):
    """The client's side of a running answer."""

    def adjusted(self, values: Mapping[str, float]) -> None:
        """Says in a header what was changed of the request, if none has left yet."""

    def limited(self, standing: Standing) -> None:
        """Says in headers, if none has left yet, what the key has left of its limits."""

    def annotated(self, domains: Sequence[str], *, in_body: bool) -> None:
        """Says in a header, if none has left yet, and in the body where that was asked for, of
        which high-risk domains the prompt is."""

    def attached(self, request_id: str) -> None:
        """Says in a header, if none has left yet, whose answer it is."""

    async def send(self, events: Sequence[Visible]) -> None:
        """Passes on what may be shown. The first call commits the status line."""

    async def finish(self, usage: Usage, finishes: Mapping[int, str]) -> None:
        """The finish reasons by choice, and the end."""

    def pulse(self, waiting: Callable[[], Waiting | None]) -> AbstractAsyncContextManager[None]:
        """While it is open, a silent stream is kept alive. Who wants to know is told how it stands
        with its `waiting`."""


class Call(Protocol):
    """One request as the pipeline sees it, whatever protocol brought it."""

    caller: Caller

    def trace_headers(self) -> TraceHeaders:
        """What it says of the trace that it belongs to."""

    def credential(self) -> str:
        """The secret presented. Raises Unauthenticated where there is none."""

    async def read(self) -> ChatRequest:
        """Reads and parses the body: only for a caller whom we know."""

    def watch(self, left: Callable[[GatewayError], None]) -> AbstractAsyncContextManager[None]:
        """While it is open, `left` is told when the client leaves. Only after the body was read."""

    def answer(self, request: ChatRequest, policy: Policy) -> Answer: ...

    async def fail(self, error: GatewayError, standing: Standing) -> None:
        """A status and a body before the first byte, an error event after it."""
