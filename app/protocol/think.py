"""The thought, told apart from the answer in one choice's text, and kept.

The chat template opens `<think>` itself, so a worker without a reasoning parser sends a thought, a
closing tag and the answer, and a thought that is cut off holds no tag at all: there the text starts
inside. A worker with a parser sends the thought in a field of its own; its text starts outside, and
a `<think>` in it hides everything up to the closing tag, or to the end: it fails closed.
"""

from collections.abc import Iterator

from app.protocol.events import ReasoningDelta, TextDelta

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"
MAX_HOLDBACK = len(CLOSE_TAG) - 1  # characters that may still become a tag


class ThinkRedactor:
    """Text of one choice in; the answer as TextDelta and the thought as ReasoningDelta out.

    Blank space between a thought and its answer belongs to neither and is dropped.
    """

    def __init__(self, choice: int, *, inside: bool) -> None:
        self._choice = choice
        self._inside = inside
        self._held = ""
        self._skip_space = False

    def thought_elsewhere(self) -> None:
        """The worker sent a thought in a field of its own: blank space may follow in the text."""
        self._skip_space = True

    def feed(self, event: TextDelta) -> Iterator[TextDelta | ReasoningDelta]:
        if not (self._held or self._inside or self._skip_space or "<" in event.text):
            yield event  # the way of nearly every token
            return
        text, self._held = self._held + event.text, ""
        while text:
            at, tag = self._next_tag(text)
            if tag:
                yield from self._emit(text[:at])
                text = text[at + len(tag) :]
                self._inside = tag == OPEN_TAG
                self._skip_space = not self._inside
                continue
            keep = _overlap(text, (CLOSE_TAG,) if self._inside else (OPEN_TAG, CLOSE_TAG))
            yield from self._emit(text[: len(text) - keep])
            self._held, text = text[len(text) - keep :], ""

    def close(self) -> Iterator[TextDelta | ReasoningDelta]:
        text, self._held = self._held, ""
        yield from self._emit(text)

    def _next_tag(self, text: str) -> tuple[int, str]:
        """The first tag that means something here. Outside, a stray closing tag is dropped."""
        closing = text.find(CLOSE_TAG)
        if self._inside:
            return (closing, CLOSE_TAG) if closing >= 0 else (-1, "")
        opening = text.find(OPEN_TAG)
        if opening >= 0 and not 0 <= closing < opening:
            return opening, OPEN_TAG
        return (closing, CLOSE_TAG) if closing >= 0 else (-1, "")

    def _emit(self, text: str) -> Iterator[TextDelta | ReasoningDelta]:
        if self._inside:
            if text:
                yield ReasoningDelta(self._choice, text)
            return
        if self._skip_space:
            text = text.lstrip()
            self._skip_space = not text
        if text:
            yield TextDelta(self._choice, text)


def _overlap(text: str, tags: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that is a proper beginning of a tag."""
    at = text.rfind("<", max(0, len(text) - MAX_HOLDBACK))
    if at < 0:
        return 0
    tail = text[at:]
    return len(tail) if any(tag.startswith(tail) for tag in tags) else 0
