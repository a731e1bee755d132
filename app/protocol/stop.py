"""Stop sequences, applied to the visible text of one choice.

Engines match `stop` inside the hidden thought too, and then answer nothing; so they are not told,
and the cut is made here, across chunk boundaries.
"""

from collections.abc import Sequence


class StopMatcher:
    """Text in, the text before the first stop sequence out. `matched` says that it came; `behind`
    is what has come from there on."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(sequences)
        self._held = ""
        self.matched = False
        self.behind = ""

    def feed(self, text: str) -> str:
        """What may be shown now; holds back only what may still become a stop sequence."""
        if self.matched:
            return ""
        text = self._held + text
        # The one that is complete first, as token by token; of two that end together, the longer.
        found = [
            (at + len(sequence), at)
            for sequence in self._sequences
            if (at := text.find(sequence)) >= 0
        ]
        if found:
            _, at = min(found)
            self.matched, self._held, self.behind = True, "", text[at:]
            return text[:at]
        keep = max((_overlap(text, sequence) for sequence in self._sequences), default=0)
        shown, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return shown

    def close(self) -> str:
        text, self._held = self._held, ""
        return text


def _overlap(text: str, sequence: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `sequence`."""
    for length in range(min(len(text), len(sequence) - 1), 0, -1):
        if sequence.startswith(text[-length:]):
            return length
    return 0
