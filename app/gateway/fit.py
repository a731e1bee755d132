"""A prompt and its answer, fitted into the model's context and to what the key may start.

vLLM cuts an answer silently where prompt and `max_tokens` together exceed the context, so that is
checked here. No prompt has more tokens than its body has bytes: only where that bound does not
settle it is a worker asked to count. A thought that was unsealed keeps to the bound, too: the seal
is base64 of more bytes than the thought has.
"""

import math
from dataclasses import dataclass, replace

from app.errors import ColdPrefillTooLong, ContextTooLong
from app.gateway.types import PreparedRequest, Principal, PromptEstimate
from app.protocol.request import ChatRequest, Json
from app.protocol.token_estimate import LIKELY_ERROR
from app.settings import Settings
from app.upstream.workers import Workers

# The template adds a few tokens to each message, and some hundreds where there are tools. These are
# bounds, not estimates.
TEMPLATE_TOKENS = 512
TEMPLATE_TOKENS_PER_MESSAGE = 8
# Answers of a length that we chose, for which a minute's tokens have room at least.
DEFAULTS_IN_A_MINUTE = 2


@dataclass(frozen=True, slots=True)
class Fitted:
    """In tokens; `prompt_tokens` is a worker's count where `exact`, else an estimate."""

    max_tokens: int
    prompt_tokens: int
    cached_tokens: int
    needed_tokens: int
    exact: bool


async def fit(
    request: ChatRequest,
    fields: Json,
    principal: Principal,
    estimate: PromptEstimate,
    settings: Settings,
    workers: Workers,
) -> Fitted:
    """`fields` hold the prompt as a worker will get it. Raises ContextTooLong."""
    wanted = request.max_tokens or settings.default_output_tokens
    if principal.policy.max_output_tokens is not None:
        wanted = min(wanted, principal.policy.max_output_tokens)
    if request.max_tokens is None:
        wanted = min(wanted, _admissible(request, principal, estimate, settings))

    template = TEMPLATE_TOKENS + TEMPLATE_TOKENS_PER_MESSAGE * len(request.messages)
    exact = None
    context_tokens = workers.context_tokens
    bound = request.body_bytes + template + wanted
    if bound > context_tokens:
        exact = await workers.count_tokens(fields)
    prompt_tokens = estimate.prompt_tokens if exact is None else exact
    max_tokens = _cap(request, wanted, prompt_tokens, exact is not None, context_tokens)
    needed = 0 if bound > context_tokens else bound
    if exact is not None:
        needed = exact + max_tokens
    cached = _rescaled(estimate.cached_tokens, estimate.prompt_tokens, prompt_tokens)
    return Fitted(max_tokens, prompt_tokens, cached, needed, exact is not None)


def with_max_tokens(prepared: PreparedRequest, max_tokens: int) -> PreparedRequest:
    """The same request with another cap, at least 1."""
    max_tokens = max(1, max_tokens)
    return replace(
        prepared,
        fields={**prepared.fields, "max_tokens": max_tokens},
        max_tokens=max_tokens,
        needed_tokens=max(0, prepared.needed_tokens - prepared.max_tokens + max_tokens),
    )


async def count_exactly(prepared: PreparedRequest, workers: Workers) -> PreparedRequest:
    """The same request with a worker's count of its prompt, or as it was where no worker can say.

    It costs a worker's processor seconds of a long prompt: to be asked only where the estimate is
    too close to a limit. Raises ContextTooLong, and Unavailable where there is no worker.
    """
    if prepared.exact:
        return prepared
    exact = await workers.count_tokens(prepared.fields)
    if exact is None:
        return prepared
    max_tokens = _cap(prepared.request, prepared.max_tokens, exact, True, workers.context_tokens)
    return replace(
        prepared,
        fields={**prepared.fields, "max_tokens": max_tokens},
        max_tokens=max_tokens,
        prompt_tokens=exact,
        cached_tokens=_rescaled(prepared.cached_tokens, prepared.prompt_tokens, exact),
        needed_tokens=exact + max_tokens,
        exact=True,
    )


async def refuse_cold(
    prepared: PreparedRequest, principal: Principal, workers: Workers
) -> PreparedRequest:
    """The request, with an exact count where that had to decide. Raises ColdPrefillTooLong where it
    would start a longer prefill than its key or its client allows, and what `count_exactly` raises.
    """
    limit = cold_limit(prepared.request, principal)
    if limit is None:
        return prepared
    if prepared.cold_tokens <= limit * LIKELY_ERROR and _suspected(prepared) > limit / LIKELY_ERROR:
        prepared = await count_exactly(prepared, workers)
    if prepared.cold_tokens > limit:
        raise ColdPrefillTooLong(
            prepared.cold_tokens, limit, param="messages" if prepared.request.chat else "prompt"
        )
    return prepared


def cold_limit(request: ChatRequest, principal: Principal) -> int | None:
    """What its key or its client allows a worker to read anew."""
    limits = (principal.policy.max_cold_prefill_tokens, request.max_cold_prefill_tokens)
    return min((limit for limit in limits if limit is not None), default=None)


def _suspected(prepared: PreparedRequest) -> float:
    """The cold tokens, also by the estimate that has learned nothing: odd prompts that a client
    sends on purpose bring the other one down, and may not lift what its key is bound to."""
    estimate = prepared.estimate
    if prepared.exact or estimate is None:
        return prepared.cold_tokens
    prior = estimate.profile.text_tokens + estimate.profile.template_tokens
    return prepared.cold_tokens * max(1.0, prior / prepared.prompt_tokens)


def _admissible(
    request: ChatRequest, principal: Principal, estimate: PromptEstimate, settings: Settings
) -> int:
    """At most so many tokens of a choice: a default of ours must not make a request that no waiting
    could admit, whatever is left at the moment. Nor may it need a minute's whole allowance, or any
    other request of the key would keep it waiting for ever."""
    cached = math.ceil(estimate.cached_tokens * settings.cached_token_weight)  # as it will cost
    cost = estimate.prompt_tokens - estimate.cached_tokens + cached
    cost += principal.policy.salvage_tokens or 0
    spare = [settings.default_output_tokens * request.n]
    for limits in (principal.policy, principal.tenant_limits):
        if limits.tokens_per_minute is not None:
            spare.append((limits.tokens_per_minute - cost) // DEFAULTS_IN_A_MINUTE)
        budgets = (limits.tokens_per_day, limits.tokens_per_month)
        spare += [budget - cost for budget in budgets if budget is not None]
    return max(1, min(spare) // request.n)


def _rescaled(cached_tokens: int, estimated_tokens: int, prompt_tokens: int) -> int:
    """What is cached is known as a share of the prompt. Something is always read anew."""
    return min(cached_tokens * prompt_tokens // max(1, estimated_tokens), max(0, prompt_tokens - 1))


def _cap(
    request: ChatRequest, wanted: int, prompt_tokens: int, exact: bool, context_tokens: int
) -> int:
    """A cap that the client named must fit as it is; one that we chose is cut to what is left."""
    left = context_tokens - prompt_tokens if exact else context_tokens - 1
    if left < 1 or (request.max_tokens is not None and wanted > left):
        raise ContextTooLong(context_tokens, prompt_tokens, wanted if request.max_tokens else 0)
    return min(wanted, left)
