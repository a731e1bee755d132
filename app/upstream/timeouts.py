"""How long a worker may take, and which of the times was over."""

from enum import StrEnum

from app.errors import UpstreamTimeout
from app.settings import Settings
from app.upstream.reading import work_of

# A prompt takes up to so many times as long as the worker's speed lets expect: others are read at
# the same time, and what was seen of its speed is an average of good and bad moments.
SLACK = 3.0
# At the beginning of a prompt; an H100 by calculation (`gateway plan`). More was probably a prompt
# that was in the worker's cache, and the next one may not be.
MOST_TOKENS_PER_SECOND = 40_000.0


class Timeout(StrEnum):
    FIRST_BYTE = "first_byte"
    BETWEEN_TOKENS = "between_tokens"
    TOTAL = "total"
    STANDSTILL = "standstill"


_MESSAGES = {
    Timeout.FIRST_BYTE: "The model server did not begin to answer within {seconds:.0f} s.",
    Timeout.BETWEEN_TOKENS: "The model server stopped answering: nothing came for {seconds:.0f} s.",
    Timeout.TOTAL: "The answer was not complete within {seconds:.0f} s, the longest that one may "
    "take.",
    Timeout.STANDSTILL: "The model server stands still and was given up.",
}


class TimedOut(UpstreamTimeout):
    """`seconds` is how long it was allowed. The code is the same for all: the message tells."""

    def __init__(self, kind: Timeout, seconds: float = 0.0) -> None:
        # Asked again, an answer that takes an hour takes another one.
        should_retry = False if kind is Timeout.TOTAL else None
        super().__init__(_MESSAGES[kind].format(seconds=seconds), should_retry=should_retry)
        self.kind = kind


def first_byte_seconds(
    settings: Settings, prompt_tokens: int, reading_tokens: int, tokens_per_second: float | None
) -> float:
    """Until the first token of a prompt on a worker that reads `reading_tokens` in all, and that
    was seen to read at this speed at the beginning of a prompt.

    The whole prompt counts, cached or not: whether the worker still has it nobody knows, and to
    give up on a million tokens that are being read again costs far more than to wait.
    """
    tokens = max(prompt_tokens, reading_tokens)
    seconds = tokens / settings.prefill_floor_tokens_per_second
    if tokens_per_second:
        believed = min(tokens_per_second, MOST_TOKENS_PER_SECOND)
        seconds = min(seconds, SLACK * work_of(tokens) / believed)
    return settings.first_byte_seconds + seconds
