"""What the steps of a walk share: the server, what is known of it, and how it is asked."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.protocol.request import Json
from app.smoke.answer import Answer
from app.smoke.patience import PREFILL_FLOOR_TOKENS_PER_SECOND, limit_seconds
from app.smoke.progress import Display, Running, shown
from app.smoke.rungs import TOP_TOKENS
from app.smoke.target import Target

# Of thought and answer together. The model's own advice is 16,384, for harder questions.
ANSWER_TOKENS = 4_096
# Of a small context, the rest of which is for prompts.
ANSWER_SHARE = 8
CHARACTERS_PER_TOKEN = 4.0  # of English, until the server has counted some
# A prefill grows faster than its length, by less than its square: to guess the next by the last.
GROWTH = 1.5


class Thoughts(StrEnum):
    """Where a bare server has to leave them."""

    SPLIT = "split"  # in a field of their own, by its reasoning parser
    INLINE = "inline"  # in the text: the gateway in front of it splits them off
    NONE = "none"  # the model does not think


@dataclass(frozen=True, slots=True)
class Options:
    """What its user wants of a walk. `strict`: warnings are failures."""

    model: str | None = None
    seed: str = ""
    first_tokens: int = 32_768
    max_tokens: int = TOP_TOKENS
    thoughts: Thoughts = Thoughts.SPLIT
    prefill_floor: float = PREFILL_FLOOR_TOKENS_PER_SECOND
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """`gateway`: it is one of ours. `context_tokens` is None where nobody says."""

    model: str
    gateway: bool
    context_tokens: int | None


@dataclass(slots=True)
class Visit:
    """`overhead_tokens` is what the template adds to each prompt. `caches` until a prompt was asked
    for three times and nothing of it was cached."""

    target: Target
    deployment: Deployment
    options: Options
    display: Display
    overhead_tokens: int = 0
    characters_per_token: float = CHARACTERS_PER_TOKEN
    question_answer: Answer | None = None
    caches: bool = True
    last_read: tuple[int, float] | None = None  # tokens and seconds of the longest prompt so far

    @property
    def answer_tokens(self) -> int:
        context = self.deployment.context_tokens
        return ANSWER_TOKENS if context is None else min(ANSWER_TOKENS, context // ANSWER_SHARE)

    async def ask(
        self,
        step: str,
        content: str,
        *,
        prompt_tokens: int = 0,
        timed: bool = False,
        **more: Any,
    ) -> Answer:
        """One user turn, with `more` fields. `timed`: show when its first token may be expected.
        Raises AskFailed."""
        fields: Json = {
            "model": self.deployment.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.answer_tokens,
        }
        limit = limit_seconds(prompt_tokens, self.answer_tokens, self.options.prefill_floor)
        expected = self._expected_seconds(prompt_tokens) if timed else None
        running = Running(step, prompt_tokens, limit, expected)
        async with shown(self.display, running):
            return await self.target.ask(fields | more, running)

    def learn(self, characters: int, prompt_tokens: int) -> None:
        """What a server counted of a text of ours."""
        tokens = prompt_tokens - self.overhead_tokens
        if tokens > 0:
            self.characters_per_token = characters / tokens

    def characters_of(self, prompt_tokens: int) -> int:
        """How long a text has to be, for a prompt of so many tokens."""
        return int(max(1, prompt_tokens - self.overhead_tokens) * self.characters_per_token)

    def _expected_seconds(self, prompt_tokens: int) -> float | None:
        if self.last_read is None:
            return None
        tokens, seconds = self.last_read
        return seconds * math.pow(prompt_tokens / tokens, GROWTH)
