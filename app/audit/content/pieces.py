"""What is kept of an answer's pieces: what would be kept of it whole (see `redaction`)."""

from typing import Any

from app.audit.content.known_scrub import KnownScrub
from app.audit.content.redaction import Redaction
from app.audit.content.stream_scrub import StreamScrub
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.json_filter import JsonFilter
from app.protocol.filters.text_filter import TextFilter
from app.protocol.request import Json
from app.store.secrets import scrub

# Of a call's arguments read as JSON, each value by itself: 2 ms a KiB, in the event loop. Longer
# ones are searched as a text, escapes and all, in a twentieth of that.
MAX_JSON_CHARACTERS = 4 * 1024


class RedactedPieces:
    """Of one answer. What may become a match with the next piece comes with that, or never, where
    there is none. Raises whatever a filter does: what follows could not be told from what was lost,
    so nothing of that answer may be kept any more.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._rules = redaction.rules
        self._texts: dict[tuple[str, object], _Text] = {}

    def part(self, choice: str, part: str | Json) -> str | Json:
        """Of what `Transcript.taken` gives for a choice."""
        if isinstance(part, str):
            return self.text(choice, "text", part)
        calls = [self._call(choice, *call) for call in part["calls"]]
        return {**part, "text": self.text(choice, "text", part["text"]), "calls": calls}

    def text(self, choice: str, where: object, piece: str) -> str:
        return self._text(choice, where).feed(piece)

    def _call(
        self, choice: str, index: int, call_id: str | None, name: str | None, arguments: str
    ) -> list[Any]:
        text = self._text(choice, index)
        # The gate lets a call through whole. Where it did not, its arguments are a text in pieces.
        is_whole = call_id is not None and len(arguments) <= MAX_JSON_CHARACTERS
        shown = text.feed_json(arguments) if is_whole else None
        return [
            index,
            self._word(call_id),
            self._word(name),
            text.feed(arguments) if shown is None else shown,
        ]

    def _word(self, word: str | None) -> str | None:
        if not word:
            return word
        return scrub(JsonFilter(self._rules).value(word) if self._rules else word)

    def _text(self, choice: str, where: object) -> "_Text":
        text = self._texts.get((choice, where))
        if text is None:
            text = self._texts[choice, where] = _Text(self._rules)
        return text


class _Text:
    def __init__(self, rules: FilterRules | None) -> None:
        self._rules = rules
        self._mask = TextFilter(rules) if rules else None
        self._known = KnownScrub()
        self._keys = StreamScrub()

    def feed(self, piece: str) -> str:
        return self._scrubbed(piece if self._mask is None else self._mask.feed(piece))

    def feed_json(self, piece: str) -> str | None:
        """Read as the JSON that it is, whose escapes would hide a match; None where it is none."""
        if not self._rules:
            return self._scrubbed(piece)
        try:
            masked = JsonFilter(self._rules).text(piece)
        except ValueError:
            return None
        return self._scrubbed(masked)

    def _scrubbed(self, piece: str) -> str:
        return self._keys.feed(self._known.feed(piece))
