"""What may be asked of a worker: the model, clamps, and a prompt that fits the context."""

import hashlib
import hmac

from app.errors import ContextTooLong, NotFound
from app.gateway.types import PreparedRequest, Principal
from app.protocol.neutralise import neutralise
from app.protocol.request import ChatRequest, Json
from app.settings import MODEL_ALIAS, MODEL_ID, Settings
from app.upstream.workers import Workers

MODEL_NAMES = (MODEL_ID, MODEL_ALIAS)

# The template adds a few tokens to each message, and some hundreds where there are tools.
TEMPLATE_TOKENS = 512
TEMPLATE_TOKENS_PER_MESSAGE = 8
# English prose has about four bytes a token; only an estimate, made exact where it matters.
BYTES_PER_TOKEN = 4


def visible_models(principal: Principal) -> tuple[str, ...]:
    """The names that this key may use, the full one first."""
    allowed = principal.policy.models
    return MODEL_NAMES if allowed is None else tuple(n for n in MODEL_NAMES if n in allowed)


async def prepare(
    request: ChatRequest,
    principal: Principal,
    settings: Settings,
    pepper: bytes,
    workers: Workers,
) -> PreparedRequest:
    """Raises NotFound for a model that this key does not see, and ContextTooLong.

    vLLM cuts an answer silently where prompt and `max_tokens` together exceed the context, so
    that is checked here. No prompt has more tokens than its body has bytes: only where that
    bound does not settle it is a worker asked to count.
    """
    if request.model not in visible_models(principal):
        shown = request.model[:64]
        raise NotFound(
            f"The model '{shown}' does not exist or you do not have access to it.",
            param="model",
            code="model_not_found",
        )
    fields = _worker_fields(request, _cache_salt(pepper, principal.tenant))
    wanted = request.max_tokens or settings.default_output_tokens
    if principal.policy.max_output_tokens is not None:
        wanted = min(wanted, principal.policy.max_output_tokens)

    estimate = request.body_bytes // BYTES_PER_TOKEN + 1
    per_minute = principal.policy.tokens_per_minute
    if per_minute is not None and request.max_tokens is None:
        # A default of ours must not make a request that no waiting could admit.
        wanted = min(wanted, max(1, per_minute - estimate))

    template = TEMPLATE_TOKENS + TEMPLATE_TOKENS_PER_MESSAGE * len(request.messages)
    exact = None
    context_tokens = workers.context_tokens
    bound = request.body_bytes + template + wanted
    if bound > context_tokens:
        exact = await workers.count_tokens(fields)
    prompt_tokens = estimate if exact is None else exact
    max_tokens = _fit(request, wanted, prompt_tokens, exact is not None, context_tokens)
    fields["max_tokens"] = max_tokens
    needed = 0 if bound > context_tokens else bound
    if exact is not None:
        needed = exact + max_tokens
    return PreparedRequest(request, fields, max_tokens, prompt_tokens, needed, exact is not None)


def _fit(
    request: ChatRequest, wanted: int, prompt_tokens: int, exact: bool, context_tokens: int
) -> int:
    """A cap that the client named must fit as it is; one that we chose is cut to what is left."""
    left = context_tokens - prompt_tokens if exact else context_tokens - 1
    if left < 1 or (request.max_tokens is not None and wanted > left):
        raise ContextTooLong(context_tokens, prompt_tokens, wanted if request.max_tokens else 0)
    return min(wanted, left)


def _worker_fields(request: ChatRequest, cache_salt: str) -> Json:
    """The allow-list: a field that is not named here reaches no worker."""
    fields: Json = {
        "messages": neutralise(request.messages),
        **request.sampling,
        "cache_salt": cache_salt,
    }
    optional = {
        "seed": request.seed,
        "n": request.n if request.n > 1 else None,
        "stop": request.stop or None,
        "tools": neutralise(request.tools) if request.tools else None,
        "tool_choice": request.tool_choice if request.tools else None,
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        "response_format": request.response_format,
    }
    return fields | {name: value for name, value in optional.items() if value is not None}


def _cache_salt(pepper: bytes, tenant: str) -> str:
    """Stable per tenant, unguessable by others: closes the timing channel of the prefix cache."""
    return hmac.new(pepper, b"cache-salt:" + tenant.encode(), hashlib.sha256).hexdigest()[:32]
