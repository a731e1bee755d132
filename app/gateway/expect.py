"""How long a prompt will turn out to be, and how much of it a worker will have in its cache."""

from dataclasses import dataclass

from app.gateway.types import Principal, PromptEstimate
from app.protocol.conversation import conversation_of
from app.protocol.prefix import PrefixMemory, prefix_of
from app.protocol.prompt_text import prompt_text
from app.protocol.request import Json
from app.protocol.token_estimate import TokenEstimates, profile_of


@dataclass(frozen=True, slots=True)
class Learned:
    """What this process has seen of prompts. Each replica learns by itself."""

    estimates: TokenEstimates
    prefixes: PrefixMemory


def expect(
    fields: Json, principal: Principal, learned: Learned, now: float, hint: str | None = None
) -> PromptEstimate:
    """`fields` hold the prompt as a worker will get it; `now` is in monotonic seconds; `hint` is
    the client's own name of its conversation."""
    text = prompt_text(fields)
    profile = profile_of(text)
    prefix = prefix_of(text, principal.tenant)
    known = learned.prefixes.known_at(prefix, now)
    prompt_tokens = learned.estimates.estimate(principal.key_id, profile)
    cached_tokens = learned.prefixes.most_cached_tokens(known, prompt_tokens)
    conversation = conversation_of(text, principal.tenant, hint)
    return PromptEstimate(prompt_tokens, cached_tokens, profile, prefix, known, conversation)
