"""Which lengths are walked."""

from collections.abc import Iterator
from dataclasses import dataclass

TOP_TOKENS = 1_048_576
# Deployments are served at a little less than a rung (1,010,000, 262,144 with the answer in it):
# such a rung is walked as far as the context goes.
NEARLY = 0.95
# What an estimated length may be off by, where it fills the context.
MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Rung:
    """`tokens` is its name's, `prompt_tokens` what is asked; None where it is skipped, and why."""

    tokens: int
    prompt_tokens: int | None
    reason: str = ""

    @property
    def name(self) -> str:
        thousands = self.tokens // 1024
        return f"{thousands // 1024}M" if thousands % 1024 == 0 else f"{thousands}k"


def rungs(
    first_tokens: int, context_tokens: int | None, max_tokens: int, answer_tokens: int
) -> Iterator[Rung]:
    """From `first_tokens` on, each twice as long as the one before, up to a million. `max_tokens`
    is what its user lets it walk; `context_tokens` what the server says, None where it does not."""
    tokens = first_tokens
    while tokens <= TOP_TOKENS:
        yield _rung(tokens, context_tokens, max_tokens, answer_tokens)
        tokens *= 2


def _rung(tokens: int, context_tokens: int | None, max_tokens: int, answer_tokens: int) -> Rung:
    if tokens > max_tokens:
        return Rung(tokens, None, f"beyond --max-context {max_tokens:,}")
    if context_tokens is None:
        return Rung(tokens, tokens)
    if context_tokens < NEARLY * tokens:
        return Rung(tokens, None, f"beyond the context of {context_tokens:,} tokens")
    most = int(context_tokens * (1 - MARGIN)) - answer_tokens
    return Rung(tokens, min(tokens, most))
