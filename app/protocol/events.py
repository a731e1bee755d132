"""What a worker's stream says, and what a client's stream is made of.

One event is one increment; text logic takes events and gives events, and never sees JSON.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class TextDelta:
    """Text of the answer, or what a worker that does not split calls its answer."""

    choice: int
    text: str


@dataclass(slots=True)
class ReasoningDelta:
    """Text of the thought. Only a client whose key may see it does."""

    choice: int
    text: str


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of a tool call. `id` and `name` come once, with the first piece."""

    choice: int
    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(slots=True, frozen=True)
class SealedReasoning:
    """The whole thought of one choice, encrypted."""

    choice: int
    data: str


@dataclass(slots=True)
class Finish:
    """The end of one choice; `reason` is one that OpenAI's SDKs know."""

    choice: int
    reason: str


@dataclass(slots=True, frozen=True)
class Usage:
    """Tokens. `exact` is false where we counted because the worker did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    exact: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def followed_by(self, other: "Usage") -> "Usage":
        """With another try's output. Its prompt is this one's, not asked for by the client."""
        return Usage(
            self.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_tokens,
            exact=self.exact and other.exact,
        )


@dataclass(slots=True, frozen=True)
class UsageReport:
    """The worker's own count; `reasoning_tokens` is None where it does not tell thought apart."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None
    cached_tokens: int


@dataclass(slots=True, frozen=True)
class StreamFailed:
    """The worker reported an error inside its stream. `message` is for our log, not for clients."""

    message: str
    code: str | None = None


Event = TextDelta | ReasoningDelta | ToolCallDelta | Finish | UsageReport | StreamFailed
Visible = TextDelta | ReasoningDelta | ToolCallDelta | SealedReasoning
