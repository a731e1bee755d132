"""What was shown of an answer so far, kept for a client that comes later.

Pieces that follow each other are joined: what is kept of a long answer is its text, and not the
thousands of objects it came in.
"""

import sys
from collections.abc import Iterable, Sequence

from app.protocol.events import ReasoningDelta, SealedReasoning, TextDelta, ToolCallDelta, Visible

# Joined so many at a time, and once. Most answers have fewer, and then nothing is done for them.
JOIN_EVENTS = 256
# One with a token's text, and its place in the list. It is measured when it is joined: to measure
# each as it comes would cost more than to keep it.
TOKEN_BYTES = 160
EVENT_BYTES = 80  # without its text


class Replay:
    def __init__(self) -> None:
        self._events: list[Visible] = []
        self._joined = 0  # of the events, those that are joined already
        self._joined_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What it holds in memory, about."""
        return self._joined_bytes + TOKEN_BYTES * (len(self._events) - self._joined)

    def add(self, events: Sequence[Visible], *, join: bool = True) -> None:
        """Not to be joined while somebody reads by position: there are fewer events afterwards."""
        self._events += events
        if join and len(self._events) - self._joined >= JOIN_EVENTS:
            self._join()

    def since(self, position: int) -> Sequence[Visible]:
        """What came after the first `position` events."""
        return self._events[position:]

    def _join(self) -> None:
        joined = join(self._events[self._joined :])
        self._events[self._joined :] = joined
        self._joined = len(self._events)
        self._joined_bytes += sum(map(_size, joined))


def join(events: Iterable[Visible]) -> list[Visible]:
    """The same answer in fewer events."""
    joined: list[Visible] = []
    run: list[Visible] = []
    for event in events:
        if run and not _goes_on(run[0], event):
            joined.append(_one(run))
            run = []
        run.append(event)
    if run:
        joined.append(_one(run))
    return joined


def _one(run: Sequence[Visible]) -> Visible:
    first, text = run[0], "".join(map(_text, run))
    if isinstance(first, TextDelta):
        return TextDelta(first.choice, text)
    if isinstance(first, ReasoningDelta):
        return ReasoningDelta(first.choice, text)
    if isinstance(first, ToolCallDelta):
        return ToolCallDelta(first.choice, first.index, text, first.id, first.name)
    return first


def _goes_on(first: Visible, event: Visible) -> bool:
    """Whether `event` is more of what `first` began."""
    if type(first) is not type(event) or first.choice != event.choice:
        return False
    if isinstance(first, ToolCallDelta) and isinstance(event, ToolCallDelta):
        return first.index == event.index and event.id is None
    return not isinstance(event, SealedReasoning)


def _text(event: Visible) -> str:
    if isinstance(event, ToolCallDelta):
        return event.arguments
    return event.data if isinstance(event, SealedReasoning) else event.text


def _size(event: Visible) -> int:
    return EVENT_BYTES + sys.getsizeof(_text(event))
