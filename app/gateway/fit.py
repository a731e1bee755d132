"""A prompt and its answer, fitted into the model's context.

vLLM cuts an answer silently where prompt and `max_tokens` together exceed the context, so that is
checked here. No prompt has more tokens than its body has bytes: only where that bound does not
settle it is a worker asked to count. A thought that was unsealed keeps to the bound, too: the seal
is base64 of more bytes than the thought has.
"""

from dataclasses import dataclass

from app.errors import ContextTooLong
from app.protocol.request import ChatRequest, Json
from app.settings import Settings
from app.store.policy import Policy
from app.upstream.workers import Workers

# The template adds a few tokens to each message, and some hundreds where there are tools.
TEMPLATE_TOKENS = 512
TEMPLATE_TOKENS_PER_MESSAGE = 8
# English prose has about four bytes a token; only an estimate, made exact where it matters.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Fitted:
    """In tokens; `prompt_tokens` is a worker's count where `exact`, else an estimate."""

    max_tokens: int
    prompt_tokens: int
    needed_tokens: int
    exact: bool


async def fit(
    request: ChatRequest, fields: Json, policy: Policy, settings: Settings, workers: Workers
) -> Fitted:
    """`fields` hold the prompt as a worker will get it. Raises ContextTooLong."""
    wanted = request.max_tokens or settings.default_output_tokens
    if policy.max_output_tokens is not None:
        wanted = min(wanted, policy.max_output_tokens)

    estimate = request.body_bytes // BYTES_PER_TOKEN + 1
    if policy.tokens_per_minute is not None and request.max_tokens is None:
        # A default of ours must not make a request that no waiting could admit.
        spare = policy.tokens_per_minute - estimate - (policy.salvage_tokens or 0)
        wanted = min(wanted, max(1, spare // request.n))

    template = TEMPLATE_TOKENS + TEMPLATE_TOKENS_PER_MESSAGE * len(request.messages)
    exact = None
    context_tokens = workers.context_tokens
    bound = request.body_bytes + template + wanted
    if bound > context_tokens:
        exact = await workers.count_tokens(fields)
    prompt_tokens = estimate if exact is None else exact
    max_tokens = _cap(request, wanted, prompt_tokens, exact is not None, context_tokens)
    needed = 0 if bound > context_tokens else bound
    if exact is not None:
        needed = exact + max_tokens
    return Fitted(max_tokens, prompt_tokens, needed, exact is not None)


def _cap(
    request: ChatRequest, wanted: int, prompt_tokens: int, exact: bool, context_tokens: int
) -> int:
    """A cap that the client named must fit as it is; one that we chose is cut to what is left."""
    left = context_tokens - prompt_tokens if exact else context_tokens - 1
    if left < 1 or (request.max_tokens is not None and wanted > left):
        raise ContextTooLong(context_tokens, prompt_tokens, wanted if request.max_tokens else 0)
    return min(wanted, left)
