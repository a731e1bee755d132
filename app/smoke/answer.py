"""An answer as it came, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from app.protocol.tags import tags

MIN_SPEED_SECONDS = 0.05  # what comes faster came in one piece, and tells no speed


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds are counted from the request on; `first_seconds` to the first text that was shown, be
    it thought, answer or call, or to the end where there was none."""

    events: tuple[Event, ...]
    headers: Mapping[str, str]
    first_seconds: float
    seconds: float

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def thought(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ReasoningDelta))

    @property
    def finish(self) -> str:
        return next(event.reason for event in self.events if isinstance(event, Finish))

    @property
    def usage(self) -> UsageReport | None:
        reports = [event for event in self.events if isinstance(event, UsageReport)]
        return reports[-1] if reports else None

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Name and arguments of each."""
        calls: dict[int, tuple[str, str]] = {}
        for event in self.events:
            if isinstance(event, ToolCallDelta):
                name, arguments = calls.get(event.index, ("", ""))
                calls[event.index] = (name + (event.name or ""), arguments + event.arguments)
        return list(calls.values())

    @property
    def tagged(self) -> bool:
        """Whether markup that belongs to no answer stands in it."""
        return any(tags(self.text))

    @property
    def tokens_per_second(self) -> float | None:
        """Of what was shown, from its first token to its last; None where that is hardly any time.
        A thought that is hidden is over before."""
        usage, seconds = self.usage, self.seconds - self.first_seconds
        if usage is None or seconds < MIN_SPEED_SECONDS:
            return None
        hidden = 0 if self.thought else usage.reasoning_tokens or 0
        tokens = usage.completion_tokens - hidden - 1
        return tokens / seconds if tokens > 0 else None
