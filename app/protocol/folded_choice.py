"""The events of one choice, folded into the message that they amount to."""

from collections.abc import Sequence

from app.protocol.events import ReasoningDelta, SealedReasoning, TextDelta, Visible
from app.protocol.request import Json

SEAL_FORMAT = "qwythos-sealed-v1"


class FoldedChoice:
    def __init__(self) -> None:
        self._text: list[str] = []
        self._thought: list[str] = []
        self._seals: list[SealedReasoning] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}  # index: id, name, arguments

    def feed(self, event: Visible) -> None:
        if isinstance(event, TextDelta):
            self._text.append(event.text)
        elif isinstance(event, ReasoningDelta):
            self._thought.append(event.text)
        elif isinstance(event, SealedReasoning):
            self._seals.append(event)
        else:
            call = self._calls.setdefault(event.index, (event.id or "", event.name or "", []))
            call[2].append(event.arguments)

    def message(self, thought_names: Sequence[str]) -> Json:
        """As `choices[i].message` has it, with what was fed of the thought under these names."""
        text = "".join(self._text)
        message: Json = {
            "role": "assistant",
            # OpenAI: "" for an empty answer, null where calls stand in its place.
            "content": None if self._calls and not text else text,
            "refusal": None,
        }
        if self._thought:
            message |= dict.fromkeys(thought_names, "".join(self._thought))
        if self._seals:
            message["reasoning_details"] = [seal_detail(seal) for seal in self._seals]
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": name, "arguments": "".join(arguments)},
                }
                for _, (call_id, name, arguments) in sorted(self._calls.items())
            ]
        return message


def seal_detail(event: SealedReasoning) -> Json:
    """OpenRouter's form, which its SDKs' users send back as it came."""
    return {
        "type": "reasoning.encrypted",
        "data": event.data,
        "format": SEAL_FORMAT,
        "index": 0,
    }
