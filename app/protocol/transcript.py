"""What an answer has said so far: whole, as its message, or what is new since it was last asked.

It is fed with each batch of a running stream, so it only keeps what it is given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.protocol.events import ReasoningDelta, SealedReasoning, TextDelta, ToolCallDelta, Visible
from app.protocol.folded_choice import FoldedChoice
from app.protocol.request import Json

THOUGHT_FIELD = "reasoning"

_Other = ToolCallDelta | SealedReasoning


class Transcript:
    """Of `n` choices. Thoughts that pass, since their client may see them, are not kept: whether
    one is written down is not for the client's view to say."""

    def __init__(self, n: int = 1) -> None:
        self._choices = [_Choice() for _ in range(n)]
        self.fresh_characters = 0  # of text and arguments

    def feed(self, events: Sequence[Visible]) -> None:
        characters = 0
        for event in events:
            if isinstance(event, TextDelta):
                self._choices[event.choice].new_text.append(event.text)
                characters += len(event.text)
            elif isinstance(event, ToolCallDelta):
                self._choices[event.choice].new_others.append(event)
                characters += len(event.arguments)
            elif not isinstance(event, ReasoningDelta):
                self._choices[event.choice].new_others.append(event)
        self.fresh_characters += characters

    def taken(self) -> dict[str, Any]:
        """What was fed since the last call, by choice, as JSON; choices that said nothing are left
        out. It is the text; where there is more than text, an object: `text`, `calls` as
        [index, id or null, name or null, piece of the arguments], `seals`."""
        new: dict[str, Any] = {}
        for index, choice in enumerate(self._choices):
            if choice.new_text or choice.new_others:
                new[str(index)] = choice.taken()
        self.fresh_characters = 0
        return new

    def retell(self, taken: Mapping[str, Any]) -> None:
        """Feeds what `taken` gave for another transcript, each part once and in order. Choices
        that are not known yet are added: only the writer knew how many there are."""
        for name, part in taken.items():
            index = int(name)
            while len(self._choices) <= index:
                self._choices.append(_Choice())
            self.feed(_events(index, part))

    def messages(self, thoughts: Mapping[int, str] | None = None) -> dict[int, Json]:
        """Each choice as the folded body has it in `choices[i].message`; with the thoughts that are
        given, and no other."""
        return {
            index: choice.message((thoughts or {}).get(index))
            for index, choice in enumerate(self._choices)
        }


class _Choice:
    """What is new, and before it what was taken."""

    def __init__(self) -> None:
        self.new_text: list[str] = []
        self.new_others: list[_Other] = []
        self._text: list[str] = []
        self._others: list[_Other] = []

    def taken(self) -> str | Json:
        text = "".join(self.new_text)
        others = self.new_others
        self._text.append(text)
        self._others += others
        self.new_text, self.new_others = [], []
        return _part(text, others) if others else text

    def message(self, thought: str | None) -> Json:
        folded = FoldedChoice()
        for text in (*self._text, *self.new_text):
            folded.feed(TextDelta(0, text))
        for other in (*self._others, *self.new_others):
            folded.feed(other)
        if thought:
            folded.feed(ReasoningDelta(0, thought))
        return folded.message((THOUGHT_FIELD,))


def _part(text: str, others: Sequence[_Other]) -> Json:
    calls: list[tuple[int, str | None, str | None, list[str]]] = []
    for event in others:
        if isinstance(event, SealedReasoning):
            continue
        if not calls or calls[-1][0] != event.index or event.id is not None:
            calls.append((event.index, event.id, event.name, []))
        calls[-1][3].append(event.arguments)  # a token of arguments is no entry of its own
    return {
        "text": text,
        "calls": [[*start, "".join(arguments)] for *start, arguments in calls],
        "seals": [event.data for event in others if isinstance(event, SealedReasoning)],
    }


def _events(choice: int, part: str | Json) -> list[Visible]:
    if isinstance(part, str):
        return [TextDelta(choice, part)]
    return [
        TextDelta(choice, part["text"]),
        *(
            ToolCallDelta(choice, index, arguments, call_id, name)
            for index, call_id, name, arguments in part["calls"]
        ),
        *(SealedReasoning(choice, data) for data in part["seals"]),
    ]
