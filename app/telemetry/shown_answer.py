"""What a client was shown, for the span of its request, where an operator asked for that."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.protocol.events import ReasoningDelta, TextDelta, ToolCallDelta, Visible

# Some 8,000 tokens. Collectors cut or refuse what is much longer.
MAX_CONTENT_CHARACTERS = 32_768


@dataclass(slots=True)
class ShownAnswer:
    """The beginning of what a client was shown, by choice."""

    texts: dict[int, list[str]] = field(default_factory=dict)
    thoughts: dict[int, list[str]] = field(default_factory=dict)  # that it may see
    calls: dict[tuple[int, int], ToolCallDelta] = field(default_factory=dict)
    left_characters: int = MAX_CONTENT_CHARACTERS
    cut: bool = False

    def add(self, events: Sequence[Visible]) -> None:
        if self.cut:
            return
        for event in events:
            if isinstance(event, TextDelta):
                self.texts.setdefault(event.choice, []).append(self._room_for(event.text))
            elif isinstance(event, ReasoningDelta):
                self.thoughts.setdefault(event.choice, []).append(self._room_for(event.text))
            elif isinstance(event, ToolCallDelta):
                self._add_call(event)

    def _add_call(self, event: ToolCallDelta) -> None:
        key = (event.choice, event.index)
        arguments = self._room_for(event.arguments)
        known = self.calls.get(key)
        if known is None:
            self.calls[key] = ToolCallDelta(
                event.choice, event.index, arguments, event.id, event.name
            )
        else:
            known.arguments += arguments

    def _room_for(self, text: str) -> str:
        if len(text) > self.left_characters:
            self.cut = True
            text = text[: self.left_characters]
        self.left_characters -= len(text)
        return text
