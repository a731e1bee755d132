"""Text that has begun to go round in circles.

A loop of period p ends in max(repeats * p, characters) characters of which each equals the one p
before it. This runs for every token of every stream, so it only looks every CHECK_CHARACTERS, at
places that do not depend on how the text was cut, and tries a few periods instead of all 4096.

Which? A tail of the text that is shorter than the loop by p comes once more, p earlier. Let it also
come q earlier, q < p. Then q and p - q are periods of the tail too, and if it has p characters or
more, so is their greatest common divisor (Fine and Wilf), which divides p: the whole loop has that
shorter period. So only the nearest place where a tail comes again can be the shortest period of a
loop, among all periods that are no longer than the tail. When it is not, a tail so long as to have
any longer period is tried; the second of these is mostly past MAX_PERIOD_CHARACTERS.

The text is kept backwards: the nearest place is then the first, and `str.find` is linear where
`str.rfind` takes needle times haystack on text that is nearly periodic.
"""

CHECK_CHARACTERS = 256  # 64 tokens: what a loop may cost beyond its threshold
MAX_PERIOD_CHARACTERS = 4096  # two pages: bounds what is kept and searched
MIN_REPEATS = 3  # what comes twice is a quotation, and leaves no tail that is longer than a period
# A tail as short as this seldom comes twice in honest text, and then nothing else is searched.
_PROBE_CHARACTERS = 32


class LoopDetector:
    """Pieces of one text in. True from the look that finds a loop on.

    Keeps max(characters, repeats * MAX_PERIOD_CHARACTERS) + CHECK_CHARACTERS characters at most.
    Raises ValueError below MIN_REPEATS and below one character.
    """

    __slots__ = ("_backwards", "_characters", "_looping", "_recent", "_repeats", "_window")

    def __init__(self, *, repeats: int, characters: int) -> None:
        if repeats < MIN_REPEATS or characters < 1:
            raise ValueError(f"a loop has {MIN_REPEATS} repeats or more, and one character or more")
        self._repeats = repeats
        self._characters = characters
        self._window = max(characters, repeats * MAX_PERIOD_CHARACTERS)
        self._backwards = ""  # up to the last look
        self._recent = ""  # since then, forwards
        self._looping = False

    def feed(self, text: str) -> bool:
        """Whether the text ended in a loop, at the last look or at one before."""
        recent = self._recent = self._recent + text
        if len(recent) >= CHECK_CHARACTERS:
            self._look()
        return self._looping

    def _look(self) -> None:
        text, self._recent = self._recent, ""
        if self._looping:
            return
        unseen = len(text) // CHECK_CHARACTERS * CHECK_CHARACTERS
        self._recent = text[unseen:]
        backwards = text[:unseen][::-1] + self._backwards
        while unseen and not self._looping:
            unseen -= CHECK_CHARACTERS
            self._looping = self._loops(backwards, unseen)
        self._backwards = "" if self._looping else backwards[: self._window]

    def _loops(self, text: str, at: int) -> bool:
        """Whether text[at:] begins with a loop."""
        if len(text) - at < self._characters:
            return False
        # The longest tail that every loop has twice: characters // repeats is the period that
        # leaves the least.
        tail = self._characters - self._characters // self._repeats
        probe = min(tail, _PROBE_CHARACTERS)
        last = at + MAX_PERIOD_CHARACTERS + probe
        nearest = text.find(text[at : at + probe], at + 1, last) - at
        while nearest > 0:  # no period is shorter
            end = at + self._window
            nearest = text.find(text[at : at + tail], at + nearest, end) - at
            if not 0 < nearest <= MAX_PERIOD_CHARACTERS:
                return False
            if self._repeats_with(nearest, text, at):
                return True
            no_period = max(tail, nearest)  # up to here
            if no_period >= MAX_PERIOD_CHARACTERS:
                return False
            tail = (self._repeats - 1) * (no_period + 1)
        return False

    def _repeats_with(self, period: int, text: str, at: int) -> bool:
        end = at + max(self._repeats * period, self._characters)
        return text[at : end - period] == text[at + period : end]
