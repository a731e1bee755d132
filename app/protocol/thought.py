"""How deep in thought a text is."""

QUOTES = "\"'`\u201c\u201d"


class ThoughtDepth:
    """Opening and closing tags, counted. `opened` are the thoughts that are open at the start:
    for each, whether a variant of the tag opened it.

    The template opens the thought, so a model that opens it once more at its very beginning has
    changed nothing; an opening later on needs a closing of its own. One behind a quotation mark is
    a mention.
    """

    def __init__(self, *opened: bool, fresh: bool = True) -> None:
        self._open = list(opened)
        self._fresh = fresh  # nothing but white space was thought so far

    @property
    def open(self) -> bool:
        return bool(self._open)

    def went_on(self, *, closed: bool) -> "ThoughtDepth":
        """What is still open, within the thought of the template, where an engine took a closing
        tag for the end of it all: one that `closed` the last of these thoughts, or none."""
        still_open = [False, *self._open]
        return ThoughtDepth(*(still_open[:-1] if closed else still_open), fresh=False)

    def pass_over(self, text: str) -> None:
        if self._fresh and not text.isspace() and text:
            self._fresh = False

    def opens(self, *, variant: bool, behind: str) -> None:
        """An opening tag behind the character `behind`."""
        if not self._fresh:
            if not (behind and behind in QUOTES):
                self._open.append(variant)
        elif variant and self._open:
            self._open[-1] = True
        self._fresh = False

    def closes(self, *, variant: bool) -> None:
        """A variant closes only what a variant has opened; otherwise it is text."""
        if self._open and (self._open[-1] or not variant):
            self._open.pop()
        else:
            self._fresh = False
