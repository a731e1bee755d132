"""What happens, counted. Every method costs microseconds and never fails a request.

With `PROMETHEUS_MULTIPROC_DIR` set before this module is imported, the processes of one gateway
count together, in files in that directory, and each of them answers for all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from app.protocol.domains import Domain
from app.protocol.events import Usage
from app.protocol.findings import CallRefusal, Findings, Hidden, Stopped
from app.settings import MODEL_ALIAS, MODEL_ID, Engine
from app.telemetry.exposition import exposed
from app.telemetry.histogram import BatchHistogram
from app.telemetry.pool_metrics import PoolMetrics
from app.telemetry.process_metrics import ProcessMetrics
from app.telemetry.series import (
    ADJUSTED_FIELDS,
    AUTHENTICATION_FAILURES,
    CHECK_OUTCOMES,
    CHECKPOINT_PLACES,
    DOMAIN_ACTIONS,
    KEEPALIVE_KINDS,
    RATE_LIMIT_SCOPES,
    RECOUNT_OUTCOMES,
    RELOAD_OUTCOMES,
    RESCUE_KINDS,
    RESCUE_OUTCOMES,
    SEAL_EVENTS,
    TOKEN_KINDS,
    Series,
)
from app.telemetry.worker_series import several_processes

OTHER = "other"
MODEL_LABELS = {MODEL_ID: MODEL_ID, MODEL_ALIAS: MODEL_ID}  # all others are "other"

# Ours are a few routes, thirty codes and two models; more combinations than this is a leak.
MAX_REQUEST_SERIES = 500
MAX_FILTER_SERIES = 2_000  # 600 rules, of which each is seen in a place or two

_RequestKey = tuple[str, str, int, str | None, bool]


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What is counted of a request that has ended, however it ended.

    `code` is the error's, None for success. `token_gaps_seconds` are the times between the
    deliveries to the client, `hold_backs_seconds` those that text waited in a filter;
    `overhead_seconds` runs from the request's reception to its waiting for a worker; None where
    none was asked.
    """

    route: str
    model: str | None
    status: int
    code: str | None
    stream: bool
    duration_seconds: float
    usage: Usage
    overhead_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    token_gaps_seconds: Sequence[float] = ()
    hold_backs_seconds: Sequence[float] = ()
    trace_id: str | None = None


class Metrics:
    """One for each application."""

    def __init__(self, registry: CollectorRegistry | None = None, *, version: str = "") -> None:
        # The library would show the time of creation beside each series, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
        self._registry = CollectorRegistry() if registry is None else registry
        if not several_processes():
            ProcessCollector(registry=self._registry)
        self._series = series = Series(self._registry)
        self.pool = PoolMetrics(self._registry)
        self.process = ProcessMetrics(self._registry)
        self._running = _Running(series.in_flight)
        self._requests: dict[_RequestKey, _RequestSeries] = {}
        self._models: dict[str, _ModelSeries] = {}
        # Made at once, so that they are there, at 0, before anything happens.
        self._scopes = _each(series.rate_limited, RATE_LIMIT_SCOPES)
        self._authentication_failures = _each(
            series.authentication_failures, AUTHENTICATION_FAILURES
        )
        self._recounts = _each(series.budget_recounts, RECOUNT_OUTCOMES)
        self._keepalives = _each(series.keepalives, KEEPALIVE_KINDS)
        self._hidden = _each(series.think_leaks_prevented, Hidden)
        self._disagreements = _each(series.parser_disagreements, Engine)
        self._stopped = _each(series.answers_stopped, Stopped)
        self._rescued = {
            (kind, outcome): series.answers_rescued.labels(kind, outcome)
            for kind in RESCUE_KINDS
            for outcome in RESCUE_OUTCOMES
        }
        self._calls_refused = _each(series.tool_calls_refused, CallRefusal)
        self._seals = _each(series.sealed_reasoning, SEAL_EVENTS)
        self._adjusted = _each(series.requests_adjusted, ADJUSTED_FIELDS)
        self._filter_hits: dict[tuple[str, str, str], Counter] = {}
        self._domains = {
            (domain, action): series.domains.labels(domain, action)
            for domain in Domain
            for action in DOMAIN_ACTIONS
        }
        self._reloads = _each(series.rules_reloads, RELOAD_OUTCOMES)
        self._checkpoints = _each(series.audit_checkpoints, CHECKPOINT_PLACES)
        self._checkpoint_failures = _each(series.audit_checkpoint_failures, CHECKPOINT_PLACES)
        self._upstream_requests = self.pool.workers.of(series.upstream_requests)
        self._worker_up = self.pool.workers.of(series.worker_up)
        self._checks = self.pool.workers.of(series.worker_checks)
        series.build_info.labels(version).set(1)

    @property
    def several_processes(self) -> bool:
        """Whether this is one of the processes of one gateway, which count together."""
        return several_processes()

    # -- requests

    def in_flight(self) -> "_Running":
        """`with metrics.in_flight():` around a request."""
        return self._running

    def request_finished(self, request: FinishedRequest) -> None:
        """Counts the request, its times and its tokens."""
        label = MODEL_LABELS.get(request.model or "", OTHER)
        key = (request.route, label, request.status, request.code, request.stream)
        series = self._requests.get(key) or self._resolve_request(key)
        series.total.inc()
        series.duration.observe(request.duration_seconds)
        if request.overhead_seconds is None:
            return  # no worker was asked, so there are no tokens
        self._series.overhead.observe(request.overhead_seconds)
        model = self._models.get(label) or self._resolve_model(label)
        if request.time_to_first_token_seconds is not None:
            # Several processes count in files, which hold no exemplars.
            exemplar = None if request.trace_id is None else {"trace_id": request.trace_id}
            model.first_token.observe(request.time_to_first_token_seconds, exemplar)
        if request.token_gaps_seconds:
            model.between_tokens.observe_many(request.token_gaps_seconds)
        if request.hold_backs_seconds:
            self._series.hold_back.observe_many(request.hold_backs_seconds)
        model.count(request.usage)

    def rate_limited(self, scope: str) -> None:
        """`scope`: requests, tokens, concurrency, day or month."""
        self._scopes[scope].inc()

    def limits_degraded(self, degraded: bool) -> None:
        self._series.limits_degraded.set(1 if degraded else 0)

    def limits_unanswered(self) -> None:
        self._series.limits_unanswered.inc()

    def replicas_seen(self, replicas: int) -> None:
        self._series.replicas.set(replicas)

    def budget_recounted(self, outcome: str) -> None:
        """`outcome`: done, late (midnight came, or another was quicker), failed or dropped."""
        self._recounts[outcome].inc()

    def authentication_failed(self, reason: str) -> None:
        """`reason`: missing, malformed, unknown or throttled."""
        self._authentication_failures[reason].inc()

    def client_cancelled(self) -> None:
        self._series.client_cancelled.inc()

    # -- answers and policy

    def answer_found(self, findings: Findings, *, engine: Engine | None, disagreed: bool) -> None:
        """What was found in one answer of a worker; `disagreed`: its parser split it otherwise."""
        if disagreed and engine is not None:
            self._disagreements[engine].inc()
        for where, times in findings.hidden.items():
            self._hidden[where].inc(times)
        if findings.shown_too_early:
            self._series.hidden_text_shown.inc(findings.shown_too_early)
        for call in findings.refused_calls:
            self._calls_refused[call.reason].inc()
        if findings.stopped is not None:
            self._stopped[findings.stopped].inc()

    def answer_rescued(self, kind: str, outcome: str) -> None:
        """`kind`: salvage or retry; `outcome`: answered, empty or failed."""
        self._rescued[kind, outcome].inc()

    def tool_refused(self) -> None:
        """A request was refused for one of its tools."""
        self._series.tools_refused.inc()

    def filter_hit(self, rule: str, action: str, surface: str, times: int = 1) -> None:
        """`surface`: prompt, answer, reasoning or arguments. The rules are an operator's, but those
        that come and go with many reloads are counted together."""
        key = (rule, action, surface)
        counter = self._filter_hits.get(key)
        if counter is None:
            if len(self._filter_hits) >= MAX_FILTER_SERIES:
                key = (OTHER, action, surface)
            counter = self._filter_hits[key] = self._series.filter_hits.labels(*key)
        counter.inc(times)

    def domain_found(self, domain: Domain, action: str) -> None:
        """`action`: annotate, refuse, or count in a dry run."""
        self._domains[domain, action].inc()

    def rules_reloaded(self, ok: bool) -> None:
        self._reloads["taken" if ok else "refused"].inc()

    def sealed_reasoning(self, event: str) -> None:
        """`event`: sealed, restored, or why a seal did not open: malformed, unknown_key, foreign
        or expired."""
        self._seals[event].inc()

    def request_adjusted(self, field: str) -> None:
        """`field`: temperature or max_tokens."""
        self._adjusted[field].inc()

    def prompt_estimated(self, ratio: float) -> None:
        """`ratio`: of the estimated prompt tokens to those that a worker reported."""
        self._series.estimate_ratio.observe(ratio)

    # -- streams

    def stream_failed(self, code: str | None) -> None:
        """A stream ended with an error event."""
        self._series.stream_errors.labels(code or OTHER).inc()

    def kept_alive(self, kind: str) -> None:
        """`kind`: comment or delta."""
        self._keepalives[kind].inc()

    # -- workers; `worker` is a name of one in the pool

    def upstream_succeeded(self, worker: str) -> None:
        self._upstream_requests.of(worker, "ok").inc()

    def upstream_failed(self, worker: str, reason: str) -> None:
        self._upstream_requests.of(worker, reason).inc()

    def upstream_retried(self, reason: str) -> None:
        self._series.upstream_retries.labels(reason).inc()

    def worker_up(self, worker: str, *, up: bool) -> None:
        self._worker_up.of(worker).set(1 if up else 0)

    def worker_checked(self, worker: str, outcome: str) -> None:
        """`outcome`: ok, failed or undecided."""
        for each in CHECK_OUTCOMES:  # made together: those that are at 0 are seen, too
            self._checks.of(worker, each)
        self._checks.of(worker, outcome).inc()

    # -- audit

    def audit_written(self, records: int) -> None:
        self._series.audit_records.inc(records)

    def audit_refused(self) -> None:
        self._series.audit_refused.inc()

    def audit_set_aside(self, records: int) -> None:
        self._series.audit_set_aside.inc(records)

    def audit_chain_broken(self) -> None:
        self._series.audit_chain_breaks.inc()

    def audit_open_metadata(self) -> None:
        """A request of a tenant that goes on while it cannot be recorded."""
        self._series.audit_open_metadata.inc()

    def audit_redaction_failed(self) -> None:
        self._series.audit_redaction_failed.inc()

    def audit_checkpointed(self, place: str) -> None:
        """`place`: spool, file, syslog or s3."""
        self._checkpoints[place].inc()

    def audit_checkpoint_failed(self, place: str) -> None:
        self._checkpoint_failures[place].inc()

    def audit_checkpoint_age(self, seconds: float) -> None:
        self._series.audit_checkpoint_age.set(seconds)

    def audit_backlog(
        self, records: int, *, in_bytes: int = 0, oldest_seconds: float = 0.0
    ) -> None:
        self._series.audit_backlog.set(records)
        self._series.audit_backlog_bytes.set(in_bytes)
        self._series.audit_oldest.set(oldest_seconds)

    def audit_spool_free(self, in_bytes: int) -> None:
        """On its disk."""
        self._series.audit_spool_free_bytes.set(in_bytes)

    # -- exposition

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body of `/metrics` and its content type, as the scraper's `accept` asks for it."""
        return exposed(self._registry, accept)

    def _resolve_request(self, key: _RequestKey) -> "_RequestSeries":
        if len(self._requests) >= MAX_REQUEST_SERIES:
            key = (OTHER, key[1], key[2], OTHER, key[4])
            if (known := self._requests.get(key)) is not None:
                return known
        route, model, status, code, stream = key
        streamed = "true" if stream else "false"
        series = self._requests[key] = _RequestSeries(
            self._series.requests.labels(route, model, str(status), code or "", streamed),
            self._series.duration.labels(route, model, streamed),
        )
        return series

    def _resolve_model(self, label: str) -> "_ModelSeries":
        series = self._models[label] = _ModelSeries(
            self._series.first_token.labels(label),
            self._series.between_tokens.labels(label),
            *(self._series.tokens.labels(label, kind) for kind in TOKEN_KINDS),
        )
        return series


class _Running:
    """Counts a request while it is open. It has no state of its own, so one serves all."""

    __slots__ = ("_gauge",)

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def __enter__(self) -> None:
        self._gauge.inc()

    def __exit__(self, *_: object) -> None:
        self._gauge.dec()


# Finding a labelled series costs more than counting in it; these are found once.


def _each(counter: Counter, values: Iterable[str]) -> dict[str, Counter]:
    """The series of a counter with one label, for each value of it."""
    return {value: counter.labels(value) for value in values}


@dataclass(frozen=True, slots=True)
class _RequestSeries:
    total: Counter
    duration: BatchHistogram


@dataclass(frozen=True, slots=True)
class _ModelSeries:
    first_token: BatchHistogram
    between_tokens: BatchHistogram
    prompt: Counter
    completion: Counter
    reasoning: Counter
    cached: Counter

    def count(self, usage: Usage) -> None:
        self.prompt.inc(usage.prompt_tokens)
        self.completion.inc(usage.completion_tokens)
        if usage.reasoning_tokens:
            self.reasoning.inc(usage.reasoning_tokens)
        if usage.cached_tokens:
            self.cached.inc(usage.cached_tokens)
