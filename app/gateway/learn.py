"""What an answer teaches about prompts: how long this one was, that a worker has read it, and how
much of it was found in the worker's cache."""

import traceback

import structlog

from app.gateway.expect import Learned
from app.gateway.meter import Meter
from app.gateway.types import PromptEstimate
from app.protocol.events import Usage
from app.protocol.token_estimate import MIN_LEARNED_TOKENS
from app.telemetry.metrics import Metrics

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
    first = meter.readers[0]
    usage = first.usage(0)
    reported = usage.exact and usage.prompt_tokens > 0
    if first.deltas or reported:  # the prefill is over
        now = meter.clock() if meter.ended_at is None else meter.ended_at
        learned.prefixes.remember(estimate.prefix, now)
    if not reported:
        return
    _observe_ratio(estimate, usage, metrics)
    learned.estimates.learn(principal.key_id, estimate.profile, usage.prompt_tokens)
    # vLLM tells what was cached only at the end; a count that we cut short holds none.
    if first.done or usage.cached_tokens:
        learned.prefixes.learn(estimate.known, usage.prompt_tokens, usage.cached_tokens)


def _observe_ratio(estimate: PromptEstimate, usage: Usage, metrics: Metrics) -> None:
    """Of prompts that are long enough to say something about the estimate."""
    if estimate.profile.text_tokens >= MIN_LEARNED_TOKENS:
        metrics.prompt_estimated(estimate.prompt_tokens / usage.prompt_tokens)
