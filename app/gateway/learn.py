"""What an answer teaches about prompts: how long this one was, that its worker has read it, and how
much of it was found in that worker's cache."""

import traceback

import structlog

from app.gateway.expect import Learned
from app.gateway.meter import Meter
from app.gateway.types import PromptEstimate
from app.protocol.events import Usage
from app.protocol.prefix import NOTHING_KNOWN
from app.protocol.token_estimate import MIN_LEARNED_TOKENS
from app.telemetry.metrics import Metrics
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.turn import Turn

# Of the tokens that a worker was known to have, found in its cache: not all, as the share is one of
# bytes, and as engines find whole blocks: of 8,000 tokens, vLLM may find 1,055 less.
HIT_SHARE = 0.8

log = structlog.get_logger()


def learn(meter: Meter, learned: Learned, metrics: Metrics) -> None:
    """Once for each request, when it has ended, however it did. Raises nothing."""
    try:
        _learn(meter, learned, metrics)
    except Exception as error:  # noqa: BLE001 - a defect here may cost no request its end
        log.error(
            "learning_failed",
            request_id=meter.caller.request_id,
            error=type(error).__name__,
            traceback="".join(traceback.format_tb(error.__traceback__)),
        )


def _learn(meter: Meter, learned: Learned, metrics: Metrics) -> None:
    prepared, principal = meter.prepared, meter.principal
    if prepared is None or prepared.estimate is None or principal is None or not meter.readers:
        return
    estimate = prepared.estimate
    # Only the first try was asked what the client asked: a second one has the same prompt, or the
    # thought in it as well.
    first, turn = meter.readers[0], meter.turns[0]
    usage = first.usage(0)
    reported = usage.exact and usage.prompt_tokens > 0
    # vLLM tells what was cached only at the end; a count that we cut short holds none.
    if reported and (first.done or usage.cached_tokens):
        _correct(estimate, usage, turn, learned)
        _observe_cache(estimate, usage, turn, metrics.pool)
    # The prefill is over; and what it left is there, if the worker is still the same.
    if (first.deltas or reported) and turn.generation == turn.endpoint.generation:
        now = meter.clock() if meter.ended_at is None else meter.ended_at
        tokens = usage.prompt_tokens if reported else estimate.prompt_tokens
        learned.prefixes.remember(estimate.prefix, turn.endpoint.name, now, prompt_tokens=tokens)
    if reported:
        _observe_ratio(estimate, usage, metrics)
        learned.estimates.learn(principal.key_id, estimate.profile, usage.prompt_tokens)


def _correct(estimate: PromptEstimate, usage: Usage, turn: Turn, learned: Learned) -> None:
    """By what the worker had in its cache. Where it had nothing of what it had read, only what it
    has read now is there."""
    worker = turn.endpoint.name
    known = estimate.known.get(worker, NOTHING_KNOWN)
    learned.prefixes.learn(worker, known, usage.prompt_tokens, usage.cached_tokens)
    if known.kept and not usage.cached_tokens:
        learned.prefixes.forget(estimate.prefix, worker)


def _observe_cache(
    estimate: PromptEstimate, usage: Usage, turn: Turn, metrics: PoolMetrics
) -> None:
    metrics.affinity_looked_up(_result(estimate, usage))
    seconds = turn.endpoint.load.seconds_for(usage.cached_tokens)
    if usage.cached_tokens and seconds is not None:
        metrics.prefill_saved(seconds)


def _result(estimate: PromptEstimate, usage: Usage) -> str:
    """Against the worker that was known to have most, whichever was asked."""
    kept = max((known.kept for known in estimate.known.values()), default=0.0)
    if not kept:
        return "none"
    if not usage.cached_tokens:
        return "miss"
    hit = usage.cached_tokens >= HIT_SHARE * kept * usage.prompt_tokens
    return "hit" if hit else "partial"


def _observe_ratio(estimate: PromptEstimate, usage: Usage, metrics: Metrics) -> None:
    """Of prompts that are long enough to say something about the estimate."""
    if estimate.profile.text_tokens >= MIN_LEARNED_TOKENS:
        metrics.prompt_estimated(estimate.prompt_tokens / usage.prompt_tokens)
