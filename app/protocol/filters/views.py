"""One text, as a filter reads it: each view is the text in another form, with its places kept.

`Folded` is what a reader sees. Where folding changed something there is `Plain` beside it, for
rules that are written for other alphabets; where something is escaped, `Unescaped`. A view that
would be the same as the folded one is not kept.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from html.entities import html5

import regex

from app.protocol.filters.fold import FOLDING, fold


class View:
    """Normalised text, and for each of its characters where in the source it came from.

    `text` begins with what rules may look back at; from `scanned` on nothing is decided. `read_to`
    is the place in the source up to which this view has read. `resume` says for a rule, by its
    order, from which index on its next match may begin. With `following` what was hidden may go on
    at the end of the text, over characters of that class.
    """

    def __init__(self, at: int = 0) -> None:
        self.text = ""
        self.scanned = 0
        self.read_to = at
        self.resume: dict[int, int] = {}
        self.following: dict[regex.Pattern[str], int] = {}
        # Places run on by one from each of these indexes to the next.
        self._indexes = [0]
        self._places = [at]

    def begin_as(self, other: "View", end: int) -> None:
        """With the text of another view before `end`: until there they were the same."""
        self.text, self.scanned, self.read_to = other.text[:end], other.scanned, other.place(end)
        self.resume = dict(other.resume)
        self.following = dict(other.following)
        segments = bisect_left(other._indexes, max(end, 1))
        self._indexes, self._places = other._indexes[:segments], other._places[:segments]

    def place(self, index: int) -> int:
        """Where in the source the character at `index` begins; that of the end is `read_to`."""
        if index >= len(self.text):
            return self.read_to
        if len(self._indexes) == 1:
            return self._places[0] + index
        segment = bisect_right(self._indexes, index) - 1
        return self._places[segment] + index - self._indexes[segment]

    def end_place(self, index: int) -> int:
        """Where the character before `index` ends."""
        return max(self.place(index - 1) + 1, self.place(index))

    def index(self, place: int) -> int:
        """Of the first character that begins at `place` or behind it."""
        if len(self._indexes) == 1:
            return max(0, min(place - self._places[0], len(self.text)))
        return bisect_left(range(len(self.text)), place, key=self.place)

    def release(self, place: int, behind: int) -> None:
        """Everything before `place` is decided; of it only `behind` characters are kept."""
        self.scanned = self.index(place)
        dropped = self.scanned - behind
        if dropped <= 0:
            return
        if len(self._indexes) == 1:
            self._places[0] += dropped
        else:
            segment = bisect_right(self._indexes, dropped) - 1
            first = self.place(dropped)
            self._indexes = [0, *(i - dropped for i in self._indexes[segment + 1 :])]
            self._places = [first, *self._places[segment + 1 :]]
        self.text = self.text[dropped:]
        self.scanned = behind
        self.following = {k: v - dropped for k, v in self.following.items()}
        if self.resume:
            self.resume = {
                order: index - dropped
                for order, index in self.resume.items()
                if index > dropped + behind
            }

    def same_as(self, other: "View") -> bool:
        return (
            self.text == other.text
            and self.read_to == other.read_to
            and self.following == other.following
            and not self.resume
            and not other.resume
        )

    def follow(self, *, final: bool) -> int:
        """The place up to which it hides on."""
        reach = 0
        for pattern, start in list(self.following.items()):
            followed = pattern.match(self.text, start)
            end = start if followed is None else followed.end()
            reach = max(reach, self.end_place(end))
            if final or end < len(self.text):
                del self.following[pattern]
            else:
                self.following[pattern] = end
        return reach

    def _append(self, *parts: tuple[str, int]) -> None:
        """Each a text, and where its characters stand in the source, one behind the other."""
        index = len(self.text)
        for text, place in parts:
            if not index:
                self._indexes, self._places = [0], [place]
            elif self._places[-1] + index - self._indexes[-1] != place:
                self._indexes.append(index)
                self._places.append(place)
            index += len(text)
        self.text += "".join([text for text, _ in parts])

    def _parts(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """What stands between two indexes, as `_append` takes it."""
        segment = bisect_right(self._indexes, start)
        while start < end:
            until = self._indexes[segment] if segment < len(self._indexes) else end
            until = min(until, end)
            yield self.text[start:until], self.place(start)
            start, segment = until, segment + 1


class Folded(View):
    @property
    def quick(self) -> bool:
        """Its places run on by one, and nothing goes on from before."""
        return (
            len(self._indexes) == 1
            and self._places[0] + len(self.text) == self.read_to
            and not self.following
            and not self.resume
        )

    def read_quickly(self, text: str, scanned: int, behind: int) -> int:
        """Takes its text together with a piece of plain ASCII behind it, decided up to `scanned`.
        Returns the place of that. As `read` and `release` would, in a fifth of their time."""
        self.read_to += len(text) - len(self.text)
        place = self._places[0] + scanned
        if scanned > behind:
            self.text = text[scanned - behind :]
            self.scanned = behind
            self._places[0] = place - behind
        else:
            self.text, self.scanned = text, scanned
        return place

    def read(self, piece: str, folded: str) -> None:
        """`folded` is the piece folded."""
        if folded is piece or all(len(FOLDING[ord(character)]) == 1 for character in set(piece)):
            self._append((folded, self.read_to))
        else:
            place = self.read_to
            self._append(
                *(
                    (part, place + at)
                    for at, character in enumerate(piece)
                    for part in FOLDING[ord(character)]
                )
            )
        self.read_to += len(piece)


class Plain(View):
    def read(self, piece: str) -> None:
        self._append((piece, self.read_to))
        self.read_to += len(piece)


_ENTITIES = {
    name: html5[name]
    for name in (
        "amp;", "commat;", "period;", "colon;", "sol;", "plus;", "num;", "lt;", "gt;", "lowbar;",
        "hyphen;", "dash;", "equals;", "quot;", "apos;", "nbsp;", "lpar;", "rpar;", "percnt;",
    )
}  # fmt: skip
_ESCAPES = (
    r"%[0-9A-Fa-f]{2}",
    r"&\#[xX][0-9A-Fa-f]{1,6};?",
    r"&\#[0-9]{1,7};?",
    "&(?:" + "|".join(_ENTITIES) + ")",
    r"\\u[0-9A-Fa-f]{4}",
    r"\\x[0-9A-Fa-f]{2}",
    # In JSON, code and Markdown: behind `\n` a word begins, as it does behind a new line.
    r"\\[ntr\"/_*.@+~-]",
)
_NAMED = {"n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = regex.compile("|".join(_ESCAPES))
_UNDECIDED_ESCAPE = regex.compile(rf"(?>{'|'.join(_ESCAPES)})[\s\S](?!)")
_HIGHEST = 0x10FFFF


def escapes(text: str) -> bool:
    """Whether there may be one."""
    return "%" in text or "&" in text or "\\" in text


class Unescaped(View):
    """Reads the folded view. What may be half an escape it has not read."""

    def read(self, folded: View, *, final: bool) -> None:
        text = folded.text
        at = folded.index(self.read_to)
        end = len(text)
        if not final:
            undecided = _UNDECIDED_ESCAPE.search(text, at, partial=True)
            if undecided is not None:
                end = undecided.start()
        parts: list[tuple[str, int]] = []
        for escape in _ESCAPE.finditer(text, at, end):
            parts += folded._parts(at, escape.start())
            place = folded.place(escape.start())
            parts += ((character, place) for character in fold(_decoded(escape[0])))
            at = escape.end()
        parts += folded._parts(at, end)
        self._append(*parts)
        self.read_to = folded.place(end)


def _decoded(escape: str) -> str:
    if escape[0] == "%":
        code = int(escape[1:], 16)
        return chr(code) if code < 0x80 else "\ufffd"  # a byte of something longer
    if escape[0] == "\\":
        if len(escape) == 2:
            return _NAMED.get(escape[1], escape[1])
        return chr(int(escape[2:], 16))
    if escape[1] != "#":
        return _ENTITIES[escape[1:]]
    digits = escape[2:].rstrip(";")
    code = int(digits[1:], 16) if digits[0] in "xX" else int(digits)
    return chr(code) if code <= _HIGHEST else "\ufffd"
