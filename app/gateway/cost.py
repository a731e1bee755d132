"""What a request costs of its limits, in tokens: the prompt and all that the model writes, thought
included. Of the prompt, what the worker found in its prefix cache weighs less."""

import math
from collections.abc import Iterator

from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest, Principal
from app.limits.subjects import Demand, Spending, Subject, SubjectKind
from app.protocol.events import Usage


def subjects_of(principal: Principal) -> tuple[Subject, ...]:
    """Whose limits bind the caller: the key's and its tenant's, where there are any."""
    return tuple(subject for subject in _subjects(principal) if subject.limited)


def demand_of(
    prepared: PreparedRequest,
    subjects: tuple[Subject, ...],
    request_id: str,
    cached_token_weight: float,
    *,
    requests: int = 1,
) -> Demand:
    return Demand(request_id, subjects, reserved_tokens(prepared, cached_token_weight), requests)


def reserved_tokens(prepared: PreparedRequest, cached_token_weight: float) -> int:
    """The prompt and the whole cap of the answer, with what may be added to an answer that its
    thought has used up."""
    tokens = _weighed(prepared.prompt_tokens, prepared.cached_tokens, cached_token_weight)
    return tokens + prepared.max_tokens * prepared.request.n + (prepared.salvage_tokens or 0)


def spending_of(meter: Meter, cached_token_weight: float) -> Spending:
    """What was used. Of a prompt that no token has answered nobody knows how much was read."""
    tokens = used_tokens(meter.usage, cached_token_weight)
    if any(reader.deltas for reader in meter.readers) or meter.usage.exact:
        return Spending(tokens)
    return Spending(0, tokens)


def used_tokens(usage: Usage, cached_token_weight: float) -> int:
    prompt = _weighed(usage.prompt_tokens, usage.cached_tokens, cached_token_weight)
    return prompt + usage.completion_tokens


def _subjects(principal: Principal) -> Iterator[Subject]:
    tenant = principal.tenant
    yield Subject(SubjectKind.KEY, principal.key_id, tenant, principal.policy)
    yield Subject(SubjectKind.TENANT, tenant, tenant, principal.tenant_limits)


def _weighed(prompt_tokens: int, cached_tokens: int, weight: float) -> int:
    cached_tokens = min(cached_tokens, prompt_tokens)
    return prompt_tokens - cached_tokens + math.ceil(cached_tokens * weight)
