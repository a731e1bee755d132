"""What is known of one request so far: the one value of the pipeline that changes.

The steps tell it what they did; at the end, however that came, audit, settle, metrics and the log
line are made from it.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from app.audit.recording import Recording
from app.audit.records import Outcome
from app.errors import ClientDisconnected, Fault, GatewayError, GatewayTimeout, InternalError
from app.gateway.running import Run
from app.gateway.types import Caller, PreparedRequest, Principal, Rescue, Screened
from app.limits.leases import Admission
from app.limits.subjects import NO_STANDING, Standing
from app.protocol.answer import AnswerReader
from app.protocol.events import Usage, Visible
from app.protocol.request import ChatRequest
from app.settings import Engine
from app.store.secrets import scrub_to
from app.telemetry.traces import UNTRACED, Step, Trace
from app.upstream.endpoint import Endpoint
from app.upstream.turn import Turn, Waiting

SHUTTING_DOWN = "server_shutting_down"
MAX_MODEL_CHARACTERS = 128  # of an unknown model's name


@dataclass(slots=True)
class Meter:
    caller: Caller
    clock: Callable[[], float]
    trace: Trace = UNTRACED
    principal: Principal | None = None
    request: ChatRequest | None = None
    screened: Screened | None = None
    prepared: PreparedRequest | None = None
    limits_asked: bool = False  # an admission may have counted the request, whatever came of it
    admission: Admission | None = None
    standing: Standing = NO_STANDING  # what the key had left
    charged_tokens: int | None = None
    settled_at: float | None = None  # seconds since the epoch
    recording: Recording | None = None  # from the intent on
    run: Run | None = None  # what others may read along
    attached: Run | None = None  # another request's, whose answer this one gets
    left: GatewayError | None = None  # its client got its end so, while the work goes on
    worker: str | None = None
    attempts: int = 0
    waiting: Waiting | None = None  # for a place on a worker, and then for its first token
    ready_at: float | None = None  # from then on it was up to the workers
    waits_since: float | None = None
    waited_seconds: float = 0.0  # for places
    asked_at: float | None = None
    tried_at: float | None = None  # when the worker was asked that was asked last
    pool: str | None = None  # its kind
    taken: bool = False  # a worker has the request, and may have worked on it
    first_token_at: float | None = None
    # Of each try that came so far: the kind of its worker, and the seconds until its first token.
    worker_first_tokens: list[tuple[str, float]] = field(default_factory=list)
    last_token_at: float | None = None
    engine: Engine | None = None
    worker_continues: bool = False  # it can go on with an answer that was begun
    readers: list[AnswerReader] = field(default_factory=list)  # one for each try
    turns: list[Turn] = field(default_factory=list)  # of each reader: where its answer came from
    rescues: list[Rescue] = field(default_factory=list)
    error: GatewayError | None = None
    ended_at: float | None = None
    # Seconds between delivered batches; an array, as an answer may have 16,384 of them.
    token_gaps: "array[float]" = field(default_factory=lambda: array("d"))
    held_since: float | None = None  # the filter holds text back
    hold_backs: "array[float]" = field(default_factory=lambda: array("d"))  # seconds, each

    def waits(self, waiting: Waiting) -> None:
        """From now on it waits for a worker that is to be asked."""
        self.waiting = waiting
        self.trace.step(Step.QUEUE)
        self.waits_since = self.clock()
        if self.ready_at is None:
            self.ready_at = self.waits_since

    def ask(self, endpoint: Endpoint) -> None:
        """A worker is about to be asked."""
        engine = endpoint.settings.engine
        self.trace.attempt(endpoint.name, model=endpoint.model, pool=endpoint.pool, engine=engine)
        self.tried_at = now = self.clock()
        if self.waits_since is not None:
            self.waited_seconds += now - self.waits_since
            self.waits_since = None
        self.worker = endpoint.name
        self.pool = endpoint.pool
        self.engine = engine
        self.worker_continues = endpoint.dialect.continues
        self.attempts += 1
        self.taken = True
        if self.asked_at is None:
            self.asked_at = now

    def refused(self, reason: str) -> None:
        """The worker that was asked did not take the request."""
        self.taken = False
        self.trace.failed(reason)

    def began(self) -> None:
        """The worker's first token is there, whether it may be seen or not."""
        self.trace.began()
        if self.tried_at is not None and self.pool is not None:
            self.worker_first_tokens.append((self.pool, self.clock() - self.tried_at))

    def delivered(self, events: Sequence[Visible]) -> None:
        """These went to the client; it is tokens that are timed."""
        if not events:
            return
        now = self.clock()
        if self.last_token_at is None:
            self.first_token_at = now
        else:
            self.token_gaps.append(now - self.last_token_at)
        self.last_token_at = now

    def held(self, held: bool, *, released: bool) -> None:
        """Whether the filter holds text back now, and whether it has just let some go."""
        if not held and self.held_since is None:
            return
        now = self.clock()
        if self.held_since is not None and (released or not held):
            self.hold_backs.append(now - self.held_since)
            self.held_since = None
        if held and self.held_since is None:
            self.held_since = now

    def end(self, error: GatewayError | None) -> None:
        self.error = error
        self.ended_at = self.clock()
        if error is not None:
            self.trace.failed(error.code or error.type)

    @property
    def usage(self) -> Usage:
        """Nothing, if no worker took the request; the worker's count, or ours, if one did."""
        if self.prepared is None or not (self.taken or self.readers):
            return Usage()
        if not self.readers:
            return Usage(self.prepared.prompt_tokens)
        first, *more = (reader.usage(self.prepared.prompt_tokens) for reader in self.readers)
        return reduce(Usage.followed_by, more, first)

    @property
    def usage_shown(self) -> Usage:
        """What its client is told: what the answer cost, also where another request paid for it."""
        return self.usage if self.attached is None else self.attached.usage

    @property
    def finishes(self) -> dict[int, str]:
        """The finish reasons of the last try that came to its end, by choice."""
        if self.attached is not None:
            return dict(self.attached.finishes)
        whole = (reader.finishes for reader in reversed(self.readers) if reader.complete)
        return next(whole, {})

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice that has one."""
        return next(iter(self.finishes.values()), None)

    @property
    def model(self) -> str | None:
        """The name that was asked for, as it may be written down: a key pasted into the wrong
        field is not kept."""
        if self.request is None:
            return None
        return scrub_to(self.request.model, MAX_MODEL_CHARACTERS)

    @property
    def status(self) -> int:
        return 200 if self.error is None else self.error.status

    @property
    def outcome(self) -> Outcome:
        error = self.error
        if error is None:
            return Outcome.COMPLETED
        if isinstance(error, ClientDisconnected):
            return Outcome.CANCELLED
        if isinstance(error, GatewayTimeout) and self.was_served:
            return Outcome.CANCELLED
        if isinstance(error, InternalError):
            return Outcome.CRASHED
        if error.code == SHUTTING_DOWN and self.was_served:
            return Outcome.DRAINED
        if error.fault is Fault.UPSTREAM or self.was_served:
            return Outcome.FAILED
        return Outcome.REFUSED

    @property
    def was_served(self) -> bool:
        """A worker was asked, or has been before."""
        return self.attempts > 0 or self.attached is not None

    @property
    def duration_seconds(self) -> float:
        return (self.ended_at or self.clock()) - self.caller.started_at

    @property
    def time_to_first_token_seconds(self) -> float | None:
        return None if self.first_token_at is None else self.first_token_at - self.caller.started_at

    @property
    def overhead_seconds(self) -> float | None:
        """From the request's headers to its waiting for a worker, the body's arrival included; None
        where no worker was asked."""
        if self.asked_at is None or self.ready_at is None:
            return None
        return self.ready_at - self.caller.started_at
