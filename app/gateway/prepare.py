"""What may be asked of a worker, and how its answer will be read: the model, the key's policy, and
a prompt that fits the context."""

import hashlib
import hmac
from collections.abc import Sequence

from app.errors import NotFound
from app.gateway.expect import Learned, expect
from app.gateway.fit import fit, refuse_cold
from app.gateway.obey import (
    adjustments,
    answer_rules,
    call_required,
    refuse_forbidden,
    seals,
    thinking_tokens,
)
from app.gateway.restore import put_back, sealer_for
from app.gateway.types import Caller, PreparedRequest, Principal
from app.protocol.neutralise import neutralise
from app.protocol.request import ChatRequest, Json, tool_name
from app.protocol.sealed import Sealer
from app.rules.rulebook import Profile
from app.settings import MODEL_ALIAS, MODEL_ID, Settings
from app.upstream.workers import Workers

MODEL_NAMES = (MODEL_ID, MODEL_ALIAS)


def visible_models(principal: Principal) -> tuple[str, ...]:
    """The names that this key may use, the full one first."""
    allowed = principal.policy.models
    return MODEL_NAMES if allowed is None else tuple(n for n in MODEL_NAMES if n in allowed)


async def prepare(
    request: ChatRequest,
    profile: Profile,
    principal: Principal,
    caller: Caller,
    settings: Settings,
    pepper: bytes,
    workers: Workers,
    sealer: Sealer | None,
    learned: Learned,
) -> PreparedRequest:
    """Raises NotFound for a model that this key does not see, Forbidden for a tool or a parameter
    that it may not use, InvalidRequest for a cold temperature or an unreadable seal where its
    policy refuses them, ContextTooLong, ColdPrefillTooLong, Unavailable where a count has to decide
    and there is no worker, and InternalError where a thought has to be sealed and there is no
    `sealer`."""
    _refuse_unknown_model(request, principal)
    policy = principal.policy
    metrics = workers.metrics
    refuse_forbidden(request, policy, metrics)
    adjusted = adjustments(request, policy, settings)
    seal = seals(request, policy)
    if seal:
        sealer = sealer_for(sealer)

    fields = _worker_fields(request, _cache_salt(pepper, principal.tenant))
    put_back(fields["messages"], request, principal, sealer, caller.received_at, metrics)
    if "temperature" in adjusted:
        fields["temperature"] = adjusted["temperature"]
    thinking = thinking_tokens(request, policy, settings)
    if thinking is not None:
        fields["thinking_token_budget"] = thinking
    estimate = expect(fields, principal, learned, caller.started_at, request.affinity_hint)
    fitted = await fit(request, fields, principal, estimate, settings, workers)
    fields["max_tokens"] = fitted.max_tokens
    prepared = PreparedRequest(
        request,
        fields,
        fitted.max_tokens,
        fitted.prompt_tokens,
        fitted.needed_tokens,
        fitted.exact,
        cached_tokens=fitted.cached_tokens,
        estimate=estimate,
        rules=answer_rules(
            request,
            policy,
            settings,
            tools=_callable(request, fields.get("tools", ())),
            max_thinking_tokens=thinking,
            profile=profile,
            call_prefix="call_" + caller.request_id.removeprefix("req_"),
        ),
        adjusted=adjusted,
        call_required=call_required(request),
        salvage_tokens=policy.salvage_tokens,
        seal=seal,
    )
    return await refuse_cold(prepared, principal, workers)


def _refuse_unknown_model(request: ChatRequest, principal: Principal) -> None:
    if request.model not in visible_models(principal):
        shown = request.model[:64]
        raise NotFound(
            f"The model '{shown}' does not exist or you do not have access to it.",
            param="model",
            code="model_not_found",
        )


def _worker_fields(request: ChatRequest, cache_salt: str) -> Json:
    """The allow-list: a field that is not named here reaches no worker."""
    fields: Json = {
        "messages": neutralise(request.messages),
        **request.sampling,
        "cache_salt": cache_salt,
    }
    tools = neutralise(request.shown_tools) if request.tools else None
    response_format = request.response_format
    optional = {
        "seed": request.seed,
        "n": request.n if request.n > 1 else None,
        "stop": request.stop or None,
        "tools": tools,
        "tool_choice": request.tool_choice if tools else None,
        "parallel_tool_calls": request.parallel_tool_calls if tools else None,
        # A grammar that demands a control string would have the model speak one.
        "response_format": neutralise([response_format])[0] if response_format else None,
    }
    return fields | {name: value for name, value in optional.items() if value is not None}


def _callable(request: ChatRequest, shown: Sequence[Json]) -> dict[str, Json | None]:
    """Schemas by name, in the words that the model was shown: it answers in them."""
    names = {tool_name(tool) for tool in request.callable_tools}
    return {
        tool_name(tool): tool["function"].get("parameters")
        for tool in shown
        if tool_name(tool) in names
    }


def _cache_salt(pepper: bytes, tenant: str) -> str:
    """Stable per tenant, unguessable by others: closes the timing channel of the prefix cache."""
    return hmac.new(pepper, b"cache-salt:" + tenant.encode(), hashlib.sha256).hexdigest()[:32]
