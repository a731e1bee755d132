"""All views of one text, read by one set of rules."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.protocol.filters.compiled import CompiledRule
from app.protocol.filters.encoded import COUNTS, Encoded, Run, first_run
from app.protocol.filters.filter_rules import RuleSet
from app.protocol.filters.fold import fold
from app.protocol.filters.rule import Action, Hit
from app.protocol.filters.scanner import LONG_CHARACTERS, Match, scan
from app.protocol.filters.views import Folded, Plain, Unescaped, View, escapes

# What is not read as it stands, long texts aside: escapes, controls, all beyond ASCII.
_ODD = re.compile(r"[^\t\n\r -$'-\[\]-~]")


@dataclass(frozen=True, slots=True)
class Found:
    """A hit, and the place up to which a mask of it reaches. It does not count where another view
    has it already."""

    compiled: CompiledRule
    hit: Hit
    hidden_to: int
    counts: bool


class Reader:
    """Text in; what was found, and the place up to which everything is decided, out."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._behind = max(rules.behind, 1)  # whether a word goes on, encodings want to know
        self._folded = Folded()
        self._plain: Plain | None = None
        self._unescaped: Unescaped | None = None
        self._encoded = (Encoded(6), Encoded(4))
        self._counted_to: dict[int, int] = {}  # by rule: where its last hit ends
        self._look = rules.probe.look
        self._quick = True  # there is one view, and nothing pending but its text
        self.hidden_to = 0  # by what was found before, over characters that follow it

    def read_quickly(self, piece: str) -> int | None:
        """The way of nearly every token: plain ASCII, in which nothing is found. Returns the place
        up to which everything is decided, or None: then nothing was read."""
        if not self._quick or _ODD.search(piece) is not None:
            return None
        folded = self._folded
        text = folded.text + piece
        run = first_run(text, folded.scanned)
        if run == COUNTS:
            return None
        found = self._look(text, folded.scanned, final=False)
        if found is None:
            scanned = run
        elif found.partial:
            scanned = min(found.start(), run)
        else:
            return None
        return folded.read_quickly(text, scanned, self._behind)

    def read(self, piece: str) -> None:
        folded = self._folded
        if self._quick:
            for one in self._encoded:
                one.seen_to = folded.place(folded.scanned)
        before = len(folded.text)
        as_seen = fold(piece)
        if self._plain is not None:
            self._plain.read(piece)
        elif as_seen != piece:
            self._plain = Plain()
            self._plain.begin_as(folded, before)
            self._plain.read(piece)
        folded.read(piece, as_seen)
        if self._plain is not None and self._plain.same_as(folded):
            self._plain = None
        if self._unescaped is None and escapes(folded.text[before:]):
            self._unescaped = Unescaped()
            self._unescaped.begin_as(folded, before)

    def decide(self, *, final: bool) -> tuple[Sequence[Found], int]:
        """What was found, in the order of the starts."""
        folded = self._folded
        decided = folded.read_to
        matches: list[tuple[View, Match]] = []
        views = self._views(final=final)
        for view in views:
            if view.following:
                self.hidden_to = max(self.hidden_to, view.follow(final=final))
            found, undecided = scan(view, self._rules, final=final)
            decided = min(decided, view.place(undecided))
            matches += [(view, match) for match in found]
        for run in self._runs():
            if not run.counts:
                decided = decided if final else min(decided, run.place(0))
                continue
            self.hidden_to = max(self.hidden_to, run.follow(final=final or run.closed))
            found, undecided = scan(run, self._rules, final=final or run.closed)
            if not (final or run.closed):
                decided = min(decided, run.place(undecided))
            matches += [(run, match) for match in found]
        hits = self._hits(matches, decided, final=final) if matches else ()
        for view in views:
            view.release(decided, self._behind)
        for encoded in self._encoded:
            encoded.release(decided, self._behind)
        if self._plain is not None and self._plain.same_as(folded):
            self._plain = None
        if self._unescaped is not None and self._unescaped.same_as(folded):
            self._unescaped = None
        self._quick = (
            self._plain is None
            and self._unescaped is None
            and folded.quick
            and all(one.idle for one in self._encoded)
        )
        return hits, decided

    def _views(self, *, final: bool) -> list[View]:
        folded = self._folded
        views: list[View] = [folded]
        if self._plain is not None:
            views.append(self._plain)
        if self._unescaped is not None:
            self._unescaped.read(folded, final=final)
            views.append(self._unescaped)
        return views

    def _runs(self) -> Sequence[Run]:
        folded, encoded = self._folded, self._encoded
        if len(folded.text) <= LONG_CHARACTERS and all(one.idle for one in encoded):
            begins = first_run(folded.text, folded.index(encoded[0].seen_to))
            if begins == len(folded.text):
                for one in encoded:
                    one.skip(folded)
                return ()
        return [run for one in encoded for run in one.read(folded)]

    def _hits(self, matches: list[tuple[View, Match]], decided: int, *, final: bool) -> list[Found]:
        """Those that will be found whatever comes next; the others are found again."""
        placed = []
        for view, match in matches:
            start = view.place(match.start)
            if start >= decided:
                continue
            compiled = match.compiled
            end = hidden_to = view.end_place(match.end)
            view.resume[compiled.order] = max(match.end, view.resume.get(compiled.order, 0))
            if compiled.then is not None:
                followed = compiled.then.match(view.text, match.end)
                reach = match.end if followed is None else followed.end()
                hidden_to = view.end_place(reach)
                if not final and reach == len(view.text):
                    view.following[compiled.then] = reach
            placed.append((start, end, hidden_to, compiled))
        placed.sort(key=_order)
        hits = []
        for start, end, hidden_to, compiled in placed:
            counts = start >= self._counted_to.get(compiled.order, 0)
            if counts:
                self._counted_to[compiled.order] = end
            hit = Hit(compiled.rule.id, compiled.action, start, end)
            hits.append(Found(compiled, hit, hidden_to, counts))
        return hits


def _order(placed: tuple[int, int, int, CompiledRule]) -> tuple[int, bool, int, int]:
    """The earliest first; what blocks, the longest, the first of the rules."""
    start, end, _, compiled = placed
    return start, compiled.action is not Action.BLOCK, -end, compiled.order
