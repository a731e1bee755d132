"""A text filtered while it streams.

The guarantee: the piece that would complete a match is withheld, with all of the match before it.
Text goes out up to the first character at which a match may still begin, whatever comes next; no
clock shortens that. What is held back is bounded by FilterRules.hold_characters.
"""

from collections.abc import Sequence

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.fold import cap_invisible
from app.protocol.filters.reader import Found, Reader
from app.protocol.filters.rule import Action, Hit
from app.protocol.filters.scanner import LONG_CHARACTERS

# Of a long text at once: one search in it takes about a millisecond.
SLICE_CHARACTERS = 256 * 1024
# Rules that only flag hold nothing back, so they may wait until there is something to look at.
FLAG_BATCH_CHARACTERS = 4096


class TextFilter:
    """Text in, what may be shown of it out. Places in `hits` are counted in the text that came in,
    without the invisible characters that were cut (see `cap_invisible`)."""

    def __init__(self, rules: FilterRules) -> None:
        self.hits: list[Hit] = []
        self.blocked = False
        self._source = ""  # not gone out yet
        self._at = 0  # the place of its first character
        self._masked_to = 0  # a mask goes on up to here
        self._limit: int | None = None  # the place behind which nothing is shown
        self._invisible_run = 0
        self._enforced = Reader(rules.enforced) if rules.enforced else None
        self._flagged = Reader(rules.flagged) if rules.flagged else None
        self._unflagged: list[str] = []
        self._unflagged_characters = 0

    @property
    def held(self) -> int:
        """Characters."""
        return len(self._source)

    def feed(self, text: str) -> str:
        if self.blocked:
            return ""
        if (
            self._enforced is not None
            and self._masked_to <= self._at
            and 0 < len(text) < LONG_CHARACTERS
            and (decided := self._enforced.read_quickly(text)) is not None
        ):
            self._invisible_run = 0
            return self._let_out(self._source + text, decided)
        if len(text) <= SLICE_CHARACTERS:
            return self._feed(text)
        slices = range(0, len(text), SLICE_CHARACTERS)
        return "".join(self._feed(text[at : at + SLICE_CHARACTERS]) for at in slices)

    @property
    def looks_on(self) -> bool:
        """Something before the limit is not decided."""
        return self._limit is not None and self._at < self._limit and not self.blocked

    def look_on(self, behind: str) -> str:
        """Text that is not shown, and may complete a match in what is held."""
        if self.blocked or self._enforced is None:
            return ""
        if self._limit is None:
            self._limit = self._at + len(self._source)
        self._source += behind
        self._enforced.read(behind)
        return self._release(self._enforced, final=False)

    def close(self) -> str:
        """The rest; nothing is held any more."""
        if self.blocked:
            return ""
        shown = self._source
        if self._enforced is not None:
            shown = self._release(self._enforced, final=True)
        self._source = ""
        self._flag(final=True)
        return shown

    def _feed(self, text: str) -> str:
        text, self._invisible_run = cap_invisible(text, self._invisible_run)
        if self._enforced is None:
            self._let_through(text)
            return text
        if self.blocked or not text:
            return ""
        self._source += text
        self._enforced.read(text)
        return self._release(self._enforced, final=False)

    def _let_through(self, text: str) -> None:
        """Of what stands behind a block, nobody knows how much there was: so flags do not see it,
        but they do see what was masked."""
        if self._flagged is None:
            return
        self._unflagged.append(text)
        self._unflagged_characters += len(text)
        if self._unflagged_characters >= FLAG_BATCH_CHARACTERS:
            self._flag(final=False)

    def _flag(self, *, final: bool) -> None:
        if self._flagged is None:
            return
        self._flagged.read("".join(self._unflagged))
        self._unflagged.clear()
        self._unflagged_characters = 0
        found, _ = self._flagged.decide(final=final)
        self.hits += [one.hit for one in found if one.counts]

    def _release(self, reader: Reader, *, final: bool) -> str:
        found, decided = reader.decide(final=final)
        self._masked_to = max(self._masked_to, reader.hidden_to)
        if self._limit is not None:
            decided = min(decided, self._limit)
            found = [one for one in found if one.hit.start < decided]
        if not found and self._masked_to <= self._at:
            return self._let_out(self._source, decided)
        shown = self._mask(found, decided)
        if self.blocked:
            self._let_through(self._source[: self.hits[-1].start - self._at])
            self._flag(final=True)
            self._source = ""
            return shown
        self._let_through(self._source[: decided - self._at])
        self._source = self._source[decided - self._at :]
        self._at = decided
        return shown

    def _let_out(self, source: str, decided: int) -> str:
        count = decided - self._at
        shown = source[:count]
        self._source = source[count:]
        self._at = decided
        if self._flagged is not None and shown:
            self._let_through(shown)
        return shown

    def _mask(self, found: Sequence[Found], decided: int) -> str:
        out: list[str] = []
        shown_to = self._at
        for one in found:
            compiled, hit = one.compiled, one.hit
            shown_to = max(shown_to, self._masked_to)
            if hit.start > shown_to:
                out.append(self._source[shown_to - self._at : hit.start - self._at])
                shown_to = hit.start
            if hit.action is Action.BLOCK:
                self.blocked = True
                self.hits += [o.hit for o in found if o.counts and _blocks(o.hit, hit.start)]
                return "".join(out)
            if one.counts:
                self.hits.append(hit)
            if hit.start >= self._masked_to:
                out.append(compiled.rule.replacement)
            self._masked_to = max(self._masked_to, one.hidden_to)
        shown_to = max(shown_to, self._masked_to)
        if decided > shown_to:
            out.append(self._source[shown_to - self._at : decided - self._at])
        return "".join(out)


def _blocks(hit: Hit, start: int) -> bool:
    """All that block where the answer ends are noted."""
    return hit.action is Action.BLOCK and hit.start == start
