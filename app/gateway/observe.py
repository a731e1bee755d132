"""A request that has ended, counted and logged."""

import structlog

from app.audit.records import Outcome
from app.errors import Unauthenticated
from app.gateway.audit import hit_counts
from app.gateway.meter import Meter
from app.limits.attempts import AuthenticationThrottled
from app.limits.refusals import LimitReached
from app.protocol.events import Usage
from app.store.secrets import scrub
from app.telemetry.logs import log_request
from app.telemetry.metrics import FinishedRequest, Metrics

log = structlog.get_logger()


def observe(meter: Meter, metrics: Metrics) -> None:
    """Once for each request, after it was audited."""
    caller, principal, request = meter.caller, meter.principal, meter.request
    error, usage, outcome = meter.error, meter.usage, meter.outcome
    code = error.code if error else None
    stream = request is not None and request.stream
    metrics.request_finished(
        FinishedRequest(
            route=caller.route,
            model=request.model if request else None,
            status=meter.status,
            code=code,
            stream=stream,
            duration_seconds=meter.duration_seconds,
            usage=usage,
            overhead_seconds=meter.overhead_seconds,
            time_to_first_token_seconds=meter.time_to_first_token_seconds,
            token_gaps_seconds=meter.token_gaps,
            hold_backs_seconds=meter.hold_backs,
            trace_id=meter.trace.trace_id if meter.trace.recorded else None,
        )
    )
    if outcome is Outcome.CANCELLED:
        metrics.client_cancelled()
    if isinstance(error, LimitReached):
        metrics.rate_limited(error.refusal.scope)
    if isinstance(error, Unauthenticated | AuthenticationThrottled):
        metrics.authentication_failed(error.failure)
    if meter.worker is not None and error is None:
        metrics.upstream_succeeded(meter.worker)
    elif meter.worker is not None and outcome is Outcome.FAILED and meter.readers:
        metrics.upstream_failed(meter.worker, code or "failed")
    _observe_worker(meter, usage, metrics)
    _observe_answers(meter, metrics)
    _observe_filter(meter, metrics)
    log_request(
        request_id=caller.request_id,
        trace_id=meter.trace.trace_id,
        span_id=meter.trace.span_id,
        method=caller.method,
        route=caller.route,
        status=meter.status,
        outcome=outcome,
        error_type=error.type if error else None,
        error_code=code,
        model=meter.model,
        stream=stream,
        tenant=principal.tenant if principal else None,
        key_id=principal.key_id if principal else None,
        worker=meter.worker,
        attempts=meter.attempts,
        usage=usage,
        finish_reason=meter.finish_reason,
        queue_seconds=meter.waited_seconds if meter.ready_at is not None else None,
        time_to_first_token_seconds=meter.time_to_first_token_seconds,
        overhead_seconds=meter.overhead_seconds,
        duration_seconds=meter.duration_seconds,
        client_retry_count=caller.retry_count,
        user_agent=scrub(caller.user_agent or "") or None,
    )


def _observe_worker(meter: Meter, usage: Usage, metrics: Metrics) -> None:
    for pool, seconds in meter.worker_first_tokens:
        metrics.pool.first_token(pool, seconds)
    if meter.pool is not None:
        metrics.pool.used(meter.pool, usage)


def _rescued(meter: Meter) -> str:
    if meter.error is not None:
        return "failed"
    return "answered" if any(c.answered for c in meter.readers[-1].choices) else "empty"


def _observe_answers(meter: Meter, metrics: Metrics) -> None:
    for reader in meter.readers:
        metrics.answer_found(reader.findings, engine=meter.engine, disagreed=reader.disagrees)
        if reader.findings.shown_too_early:
            log.warning(
                "hidden_text_shown", request_id=meter.caller.request_id, worker=meter.worker
            )
    for rescue in meter.rescues:
        metrics.answer_rescued(rescue, _rescued(meter))
    if meter.prepared is not None:
        for field in meter.prepared.adjusted:
            metrics.request_adjusted(field)


def _observe_filter(meter: Meter, metrics: Metrics) -> None:
    for (rule, action, surface), times in hit_counts(meter).items():
        metrics.filter_hit(rule, action, surface, times)
    if meter.screened is not None:
        for domain in meter.screened.domains:
            metrics.domain_found(domain, meter.screened.domain_actions.get(domain, "count"))
