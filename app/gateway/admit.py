"""May it run now? A reservation against the limits of the key and its tenant, or a 429."""

import math

from app.gateway.cost import demand_of, reserved_tokens, subjects_of
from app.gateway.fit import count_exactly, with_max_tokens
from app.gateway.types import PreparedRequest, Principal
from app.limits.leases import Admission
from app.limits.limiter import Limiter
from app.limits.refusals import LimitReached
from app.limits.subjects import Scope, Spending
from app.protocol.token_estimate import LIKELY_ERROR
from app.settings import Settings
from app.upstream.workers import Workers

BUDGETS = (Scope.DAY, Scope.MONTH)
# With less than this left a budget is as good as spent: an answer would be cut in its thought.
MIN_DEFAULT_OUTPUT_TOKENS = 256


async def admit(
    prepared: PreparedRequest,
    principal: Principal,
    limiter: Limiter,
    workers: Workers,
    settings: Settings,
    request_id: str,
) -> tuple[PreparedRequest, Admission]:
    """The request as it is admitted, with its reservation.

    An estimate decides, but near a limit: there a worker counts the prompt. Raises RateLimited, and
    Unavailable where a budget cannot be known.
    """
    weight = settings.cached_token_weight
    subjects = subjects_of(principal)
    try:
        admission = await limiter.admit(demand_of(prepared, subjects, request_id, weight))
    except LimitReached as refused:
        fitted = await _fitted(prepared, refused, workers, weight)
        demand = demand_of(fitted, subjects, request_id, weight)
        if demand.tokens >= refused.refusal.requested:
            raise
        return fitted, await limiter.admit(demand)
    left = admission.budget_left
    if prepared.exact or left is None or left >= _likely_error_tokens(prepared):
        return prepared, admission
    # So little is left of the budget that an estimate which is too low would overdraw it.
    await limiter.settle(admission, Spending(0))
    counted = await count_exactly(prepared, workers)
    exact = demand_of(counted, subjects, request_id, weight, requests=0)
    return counted, await limiter.admit(exact)


async def _fitted(
    prepared: PreparedRequest, refused: LimitReached, workers: Workers, weight: float
) -> PreparedRequest:
    """What of the request might pass instead: as a worker counts it, and where the length of the
    answer was ours to choose with one that the budget has left."""
    refusal = refused.refusal
    room = refusal.limit - refusal.used
    ours = refusal.scope in BUDGETS and prepared.request.max_tokens is None
    # Could it pass if its estimate was as much too high as is likely?
    spare = prepared.prompt_tokens - int(prepared.prompt_tokens / LIKELY_ERROR)
    if ours:
        spare += (prepared.max_tokens - MIN_DEFAULT_OUTPUT_TOKENS) * prepared.request.n
    if refusal.scope not in (Scope.TOKENS, *BUDGETS) or refusal.requested - spare > room:
        return prepared
    counted = await count_exactly(prepared, workers)
    over = reserved_tokens(counted, weight) - room
    if not ours or over <= 0:
        return counted
    shorter = counted.max_tokens - math.ceil(over / counted.request.n)
    return counted if shorter < MIN_DEFAULT_OUTPUT_TOKENS else with_max_tokens(counted, shorter)


def _likely_error_tokens(prepared: PreparedRequest) -> int:
    return int(prepared.prompt_tokens * (LIKELY_ERROR - 1))
