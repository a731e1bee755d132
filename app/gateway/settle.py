"""The reservation, trued up to what was used; a request that came to none, counted."""

from app.gateway.cost import spending_of, subjects_of
from app.gateway.meter import Meter
from app.limits.limiter import Limiter
from app.limits.refusals import LimitReached
from app.limits.subjects import Demand


async def settle(meter: Meter, limiter: Limiter, cached_token_weight: float) -> None:
    """However the request ended. What the limits charged and what they have left then stands in the
    meter."""
    if meter.admission is not None:
        spending = spending_of(meter, cached_token_weight)
        meter.charged_tokens = spending.certain_tokens + spending.unsure_tokens
        # It stands where the next line is cut off: budgets then learn from the record alone.
        meter.settled_at = limiter.now()
        meter.settled_at = await limiter.settle(meter.admission, spending)
    elif isinstance(meter.error, LimitReached):
        meter.standing = meter.error.standing
    elif meter.principal is not None:
        await count(meter, limiter, requests=0 if meter.limits_asked else 1)


async def count(meter: Meter, limiter: Limiter, *, requests: int) -> None:
    """A request without a reservation: refused before it came to one, or in need of none."""
    assert meter.principal is not None  # noqa: S101 - narrows; only a known caller is counted
    subjects = subjects_of(meter.principal)
    demand = Demand(meter.caller.request_id, subjects, 0, requests, reserving=False)
    meter.standing = await limiter.count(demand)
