"""What a request may ask of the model: the answer, the prompt, and the thought between."""

from typing import Annotated

from pydantic import Field

from app.settings.forms import Theme


class GenerationSettings(Theme):
    """The answer"""

    default_output_tokens: int = Field(default=16_384, ge=1)
    """The longest answer of a request that names none: what the model card recommends."""

    max_choices: int = Field(default=4, ge=1, le=16)
    """Answers to one request (`n`): each one takes a place on a worker."""

    max_messages: int = Field(default=10_000, ge=1)
    """Messages of one request: far more than a conversation of a million tokens has."""

    max_tools: int = Field(default=128, ge=0)
    """Tools that one request may offer: OpenAI's own limit."""

    temperature_floor: float = Field(default=0.4, gt=0.3, le=2)
    """At 0.3 and below this model loops; a request that cold is sampled at this temperature
    instead."""


class PromptSettings(Theme):
    """The prompt

    What is remembered of prompts that workers have read; see
    [Long prompts](long-prompts.md).
    """

    prefix_memory_seconds: float = Field(default=600.0, gt=0)
    """A prompt that was read so long ago is taken for cold: a person answers within minutes, and a
    busy worker has room for a few of the longest prompts only."""

    prefix_memory_entries: int = Field(default=50_000, ge=1)
    """Some 200 bytes each, one for 8 KiB of a prompt: 100 of the longest prompts, in 10 MB a
    process."""


class ThoughtSettings(Theme):
    """The thought"""

    max_thinking_tokens: int | None = Field(default=None, ge=1)
    """How long any answer may think, beside the quota of its key. By default as long as it may
    answer."""

    thinking_tokens_by_effort: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=lambda: {"none": 64, "minimal": 256, "low": 1_024, "medium": 4_096}
    )
    """What each `reasoning_effort` may think; efforts that are not named here may think as they
    like."""

    hold_characters: int = Field(default=64 * 1024, ge=1)
    """Text that comes before any thought is held until the worker is seen to split it off; at most
    so much, some 16,000 tokens."""

    sealed_reasoning_seconds: float = Field(default=86_400.0, gt=0, le=366 * 86_400)
    """How long a client may carry a sealed thought: a tool loop of one day; at most a year."""

    loop_repeats: int = Field(default=4, ge=3)
    """A model that says the same text so often in a row, and at least as much of it as the next two
    say, is in a loop: it is stopped."""

    loop_thought_characters: int = Field(default=2_000, ge=200)
    """Of a loop in the thought: two repeated paragraphs."""

    loop_answer_characters: int = Field(default=8_000, ge=200)
    """Of a loop in the answer, which may have been asked to repeat a line."""
