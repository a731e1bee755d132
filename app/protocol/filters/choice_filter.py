"""What one choice shows, filtered: its answer, its visible thought, the arguments of its calls.

Every string of an event is text to look at, unless it stands on a short list: so a field of next
year is covered before anyone thinks of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from app.protocol.events import ReasoningDelta, TextDelta, ToolCallDelta, Visible
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.json_filter import Blocked, JsonFilter
from app.protocol.filters.rule import Hit
from app.protocol.filters.text_filter import TextFilter

# Strings that are no text: an id that we made or checked, the name of a tool that the client
# offered, a thought that is encrypted.
STRUCTURAL = frozenset(
    {("ToolCallDelta", "id"), ("ToolCallDelta", "name"), ("SealedReasoning", "data")}
)
PIECE_CHARACTERS = 4096  # of arguments, in one delta

Surface = str  # where a hit is: see SURFACES

_NAMES: Mapping[type, Surface] = {
    TextDelta: "answer",
    ReasoningDelta: "reasoning",
    ToolCallDelta: "arguments",
}


def _texts(event: type) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in fields(event)
        if "str" in str(field.type) and (event.__name__, field.name) not in STRUCTURAL
    )


TEXTS: Mapping[type, tuple[str, ...]] = {event: _texts(event) for event in get_args(Visible)}


@dataclass(frozen=True, slots=True)
class SurfaceHit:
    """`choice` is that of the answer; places are those in the text of that surface."""

    surface: Surface
    choice: int
    hit: Hit


class ChoiceFilter:
    """Visible events in, those that may go out. Deltas of one kind that come in one batch leave as
    one. A client joins all answer texts of a choice, so they are one text, whatever comes between
    them. A thought is over where something else begins: its end is not held until the choice's.
    After `blocked` nothing leaves any more."""

    def __init__(self, choice: int, rules: FilterRules) -> None:
        self.choice = choice
        self._rules = rules
        self._found: list[SurfaceHit] = []  # in texts that have ended
        self._streams: dict[tuple[type, str], TextFilter] = {}  # by event, and its field
        self._pending: list[Any] = []  # events of one kind that came in this batch
        self.blocked = False

    @property
    def held(self) -> bool:
        return any(stream.held for stream in self._streams.values())

    @property
    def hits(self) -> list[SurfaceHit]:
        """What was found so far."""
        return self._found + self._streamed()

    def _streamed(self) -> list[SurfaceHit]:
        return [
            SurfaceHit(_NAMES.get(kind, kind.__name__), self.choice, hit)
            for (kind, _), stream in self._streams.items()
            for hit in stream.hits
        ]

    def feed(self, event: Visible, out: list[Visible]) -> None:
        pending = self._pending
        if pending and not _goes_on(pending[0], event):
            self.flush(out)
        self._pending.append(event)

    def flush(self, out: list[Visible]) -> None:
        """The end of a batch: nothing waits here but what may become a match."""
        events, self._pending = self._pending, []
        if not events or self.blocked:
            return
        kind = type(events[0])
        if kind is not ReasoningDelta and not self._ends_thought(out):
            return
        if kind is TextDelta or kind is ReasoningDelta:  # the way of nearly every event
            text = events[0].text if len(events) == 1 else _joined(events, "text")
            stream = self._streams.get((kind, "text")) or self._begin(kind, "text")
            shown = stream.feed(text)
            if stream.blocked:
                self.blocked = True
            if shown:
                out.append(kind(self.choice, shown))
        elif kind is ToolCallDelta:
            self._call(events, out)
        else:
            self._other(events, out)

    def _other(self, events: list[Any], out: list[Visible]) -> None:
        """Whatever comes to be shown next year."""
        event = events[0]
        kind = type(event)
        changed = {}
        for name in TEXTS[kind]:
            stream = self._streams.get((kind, name)) or self._begin(kind, name)
            changed[name] = stream.feed(_joined(events, name))
            self.blocked = self.blocked or stream.blocked
        if not changed:  # it has no text
            out.append(event)
        elif any(changed.values()):
            out.append(replace(event, **changed))

    def _begin(self, kind: type, name: str) -> TextFilter:
        stream = self._streams[kind, name] = TextFilter(self._rules)
        return stream

    def close(self, out: list[Visible]) -> None:
        """The end of the choice: whatever was held goes out, or ends it."""
        self.flush(out)
        self._end_all(out)

    @property
    def looks_on(self) -> bool:
        """What is held may be decided by what comes behind the choice's end."""
        return any(stream.looks_on for stream in self._streams.values())

    def look_on(self, behind: str, out: list[Visible]) -> None:
        """The client's own stop sequence has ended the answer, and may have cut a match in two: of
        the text that comes behind, nothing is shown."""
        self.flush(out)
        answer = self._streams.get((TextDelta, "text"))
        if answer is None or self.blocked:
            self.close(out)
            return
        rest = answer.look_on(behind)
        self.blocked = answer.blocked
        if rest:
            out.append(TextDelta(self.choice, rest))
        if not answer.looks_on:
            self.close(out)

    def _end_all(self, out: list[Visible]) -> None:
        for (kind, name), stream in self._streams.items():
            self._end(kind, name, stream, out)

    def _ends_thought(self, out: list[Visible]) -> bool:
        """Whether what comes behind it may be shown."""
        thought = self._streams.get((ReasoningDelta, "text"))
        if thought is not None:
            self._end(ReasoningDelta, "text", thought, out)
            self._found += [SurfaceHit("reasoning", self.choice, hit) for hit in thought.hits]
            del self._streams[ReasoningDelta, "text"]
        return not self.blocked

    def _end(self, kind: type, name: str, stream: TextFilter, out: list[Visible]) -> None:
        rest = "" if self.blocked else stream.close()
        self.blocked = self.blocked or stream.blocked
        if rest:
            out.append(kind(self.choice, **{name: rest}))

    def _call(self, events: list[ToolCallDelta], out: list[Visible]) -> None:
        """The gate lets a call through whole, so all of it is here."""
        reader = JsonFilter(self._rules)
        try:
            arguments = reader.text("".join(event.arguments for event in events))
        except Blocked:
            self._end_all(out)  # what stands before it
            self.blocked = True
        self._found += [SurfaceHit("arguments", self.choice, hit) for _, hit in reader.hits]
        if self.blocked:
            return
        out.append(replace(events[0], arguments=""))
        index = events[0].index
        for at in range(0, len(arguments), PIECE_CHARACTERS):
            piece = arguments[at : at + PIECE_CHARACTERS]
            out.append(ToolCallDelta(self.choice, index, piece))


def _goes_on(first: Visible, event: Visible) -> bool:
    if isinstance(first, ToolCallDelta):
        return isinstance(event, ToolCallDelta) and event.index == first.index
    return type(first) is type(event) and bool(TEXTS[type(event)])


def _joined(events: list[Any], name: str) -> str:
    return "".join([getattr(event, name) for event in events])
