"""Secrets of ours in a text that comes in pieces."""

import re

from app.store.secrets import ANY_SECRET, PREFIX

_MASK = "***"
_REST = re.compile("[0-9A-Za-z]*", re.ASCII)
_STARTS = "|".join(PREFIX[:length] for length in range(1, len(PREFIX)))
# What may become a secret with the next piece.
_START = re.compile(rf"(?:{PREFIX}[0-9A-Za-z]{{0,7}}|{_STARTS})\Z", re.ASCII)
_START_CHARACTERS = len(PREFIX) + 7


class StreamScrub:
    """`feed` gives each piece without the secrets in it. Nothing is held back: of a secret that is
    cut in two, at most the first 7 of its 49 characters come out, with the piece that had them."""

    def __init__(self) -> None:
        self._start = ""  # the end of what was fed, which may become a secret
        self._within = False  # a secret goes on

    def feed(self, piece: str) -> str:
        if self._within:
            rest = _REST.match(piece)
            end = rest.end() if rest is not None else 0
            if end == len(piece):
                return ""
            piece, self._within = piece[end:], False
        if not self._start and PREFIX not in piece:
            clean = piece
            text = piece
        else:
            text = self._start + piece
            clean = self._scrubbed(text, len(self._start))
        found = None if self._within else _START.search(text[-_START_CHARACTERS:])
        self._start = found[0] if found is not None else ""
        return clean

    def _scrubbed(self, text: str, given: int) -> str:
        """Of what is behind the first `given` characters, which have come out already."""
        parts: list[str] = []
        position = given
        for secret in ANY_SECRET.finditer(text):
            start, end = secret.span()
            parts.append(text[position:start])
            parts.append((PREFIX + _MASK)[min(max(given - start, 0), len(PREFIX)) :])
            position = end
            self._within = end == len(text)
        parts.append(text[position:])
        return "".join(parts)
