"""How long a request may take before we give up."""

FIRST_BYTE_SECONDS = 120.0  # the gateway's own default, beside the prompt's length
# The gateway's own default for the slowest prefill that it bears: 42 minutes for a million tokens.
PREFILL_FLOOR_TOKENS_PER_SECOND = 400.0
DECODE_FLOOR_TOKENS_PER_SECOND = 4.0  # a laptop's, behind a long context
# Once the answer has begun. A gateway sends a comment every 15 s, a worker a token.
SILENCE_SECONDS = 120.0


def limit_seconds(prompt_tokens: int, answer_tokens: int, prefill_floor: float) -> float:
    """To the end of the answer. `prefill_floor` is in tokens a second."""
    prefill = prompt_tokens / prefill_floor
    return FIRST_BYTE_SECONDS + prefill + answer_tokens / DECODE_FLOOR_TOKENS_PER_SECOND
