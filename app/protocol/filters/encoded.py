"""Runs of base64 or hexadecimal digits, decoded where what they say is printable ASCII.

Nearly every word is such a run by its letters, and nearly none says anything: a run is given up at
the first byte that is not printable.
"""

import re
import string
from collections.abc import Sequence

from app.protocol.filters.views import View

# What says less is not looked at: no value worth hiding is shorter, and words are.
MIN_CHARACTERS = 6
_FEWEST_DIGITS = 8  # that say so much
COUNTS = -1
_PRINTABLE = frozenset(map(ord, string.printable)) - {0x0B, 0x0C}
_BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits
_VALUES = {
    6: {
        **{digit: value for value, digit in enumerate(_BASE64)},
        **{"+": 62, "-": 62, "/": 63, "_": 63},
    },
    4: {digit: int(digit, 16) for digit in string.hexdigits},
}
# How runs begin whose first byte is printable, and whose next ones may be by what is seen of them;
# those that are too short are left out where their end is seen. Each begins with a plain class, for
# which `re` searches three times as fast, and looks back from behind it.
_BEGINNINGS = {
    6: re.compile(
        r"[I-Za-f](?<![A-Za-z0-9+/_-][I-Za-f])(?:\Z|[AC-HQS-Xgi-nwyz0-3]"
        r"(?:\Z|[ABEFIJMNQRUVYZcdghklopstwx014589]"
        r"(?:[A-Za-z0-9+/_-]{5}|[A-Za-z0-9+/_-]{0,4}\Z)))"
    ),
    4: re.compile(r"[2-7](?<![0-9A-Fa-f][2-7])(?:[0-9A-Fa-f]{11}|[0-9A-Fa-f]{0,10}\Z)"),
}


class Run(View):
    """What one run says. Once it is `closed` nothing more comes, and no match goes beyond it."""

    closed = False
    said = 0  # characters

    @property
    def counts(self) -> bool:
        return self.said >= MIN_CHARACTERS

    def end_place(self, index: int) -> int:
        """A byte ends within the digit behind the one that it begins in."""
        return max(self.place(index - 1) + 2, self.place(index))

    def add(self, byte: int, place: int) -> None:
        self.said += 1
        self._append((chr(byte), place))


class Encoded:
    """Reads the folded view. A digit carries 6 bits (base64) or 4 (hexadecimal)."""

    def __init__(self, bits: int) -> None:
        self._digit_bits = bits
        self._values = _VALUES[bits]
        self._beginning = _BEGINNINGS[bits]
        self.seen_to = 0  # the place up to which it has read
        self._open: Run | None = None
        self._value = self._bits = 0
        self._first = 0  # the place of the digit that the next byte begins in
        self._runs: list[Run] = []

    @property
    def idle(self) -> bool:
        """Nothing of what it read can become a match."""
        return not self._runs

    def skip(self, folded: View) -> None:
        """What has come holds no beginning of a run."""
        self.seen_to = folded.read_to

    def read(self, folded: View) -> Sequence[Run]:
        """The runs that are not decided yet. An open one that does not count may still do so."""
        text = folded.text
        at, end = folded.index(self.seen_to), len(text)
        while at < end:
            if self._open is not None:
                at = self._go_on(self._open, folded, at, end)
                continue
            beginning = self._beginning.search(text, at)
            if beginning is None:
                break
            at = beginning.start()
            self._value = self._bits = 0
            self._first = folded.place(at)
            self._open = Run(self._first)
            self._runs.append(self._open)
        self.seen_to = folded.read_to
        if self._open is not None:
            self._open.read_to = self._first if self._bits else self.seen_to
        return self._runs

    def release(self, place: int, behind: int) -> None:
        for run in self._runs:
            run.release(place, behind)
        self._runs = [run for run in self._runs if not run.closed or run.read_to > place]

    def _go_on(self, run: Run, folded: View, at: int, end: int) -> int:
        text, values = folded.text, self._values
        while at < end:
            value = values.get(text[at])
            if value is None:
                self._close(run, folded.place(at))
                return at
            place = folded.place(at)
            if not self._bits:
                self._first = place
            self._value = self._value << self._digit_bits | value
            self._bits += self._digit_bits
            at += 1
            if self._bits < 8:
                continue
            self._bits -= 8
            byte = self._value >> self._bits
            self._value &= (1 << self._bits) - 1
            if byte not in _PRINTABLE:
                self._close(run, place)
                return at
            run.add(byte, self._first)
            self._first = place
        return at

    def _close(self, run: Run, place: int) -> None:
        run.closed = True
        run.read_to = place
        self._open = None
        if not run.counts:
            self._runs.remove(run)


def first_run(text: str, at: int) -> int:
    """Where at `at` or behind it a run begins that may still come to count, and goes on to the end
    of the text; the end of the text where none does. COUNTS, where one counts already."""
    first = len(text)
    for beginning in _BEGINNINGS.values():
        begins = beginning.search(text, at)
        if begins is not None:
            start, end = begins.span()
            if end < len(text) or end - start >= _FEWEST_DIGITS:
                return COUNTS
            first = min(first, start)
    return first
