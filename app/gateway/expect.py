"""How long a prompt will turn out to be, and how much of it a worker will have in its cache."""

from dataclasses import dataclass

from app.gateway.types import Principal, PromptEstimate
from app.protocol.prefix import PrefixMemory, prefix_of
from app.protocol.prompt_text import prompt_text
from app.protocol.request import Json
from app.protocol.token_estimate import TokenEstimates, profile_of


@dataclass(frozen=True, slots=True)
class Learned:
    """What this process has seen of prompts. Each replica learns by itself."""

    estimates: TokenEstimates
    prefixes: PrefixMemory


def expect(fields: Json, principal: Principal, learned: Learned, now: float) -> PromptEstimate:
    """`fields` hold the prompt as a worker will get it; `now` is in monotonic seconds."""
    text = prompt_text(fields)
    profile = profile_of(text)
    prefix = prefix_of(text, principal.tenant)
    known = learned.prefixes.known(prefix, now)
    prompt_tokens = learned.estimates.estimate(principal.key_id, profile)
    cached_tokens = learned.prefixes.expected_cached_tokens(known, prompt_tokens)
    return PromptEstimate(prompt_tokens, cached_tokens, profile, prefix, known)
