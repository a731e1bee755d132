"""May it run now? A reservation against the key's limits, or a 429."""

from app.gateway.types import PreparedRequest, Principal
from app.limits.local import LocalLimits, Reservation


def admit(
    prepared: PreparedRequest, principal: Principal, limits: LocalLimits, request_id: str
) -> Reservation:
    """Reserves the prompt and the whole cap of the answer, with what may be added to an answer that
    its thought has used up. Raises RateLimited."""
    cost_tokens = prepared.prompt_tokens + prepared.max_tokens * prepared.request.n
    cost_tokens += prepared.salvage_tokens or 0
    return limits.admit(principal.key_id, request_id, principal.policy, cost_tokens)
