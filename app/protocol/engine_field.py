"""The thought as an engine sends it, in a field of its own, watched for signs that it errs."""

from app.protocol.tags import Kind, partial_tag, tags
from app.protocol.thought import QUOTES, ThoughtDepth


class EngineField:
    """An engine ends the thought at the first closing tag. Where a thought within the thought was
    still open then, or the tag was only quoted, what it calls the answer is thought still."""

    def __init__(self, *, tags_are_text: bool) -> None:
        self._tags_are_text = tags_are_text
        self._depth = ThoughtDepth()
        self._tail = ""  # may still become a tag
        self._behind = ""  # the last character before it
        self._just_ended = False  # no text has come since

    @property
    def quiet(self) -> bool:
        """Text would not be taken for a part of it."""
        return not (self._just_ended or self._depth.open)

    def feed(self, text: str) -> None:
        """`text` is not empty."""
        self._just_ended = True
        if self._tags_are_text:
            return
        if self._tail or "<" in text:
            self._count(text)
        else:
            self._depth.pass_over(text)
            self._behind = text[-1]

    def goes_on_in(self, text: str) -> ThoughtDepth | None:
        """What is still open, if `text`, which is taken for the answer, belongs to the thought."""
        just_ended, self._just_ended = self._just_ended, False
        quoted = just_ended and self._behind != "" and self._behind in QUOTES
        if quoted and text[0] == self._behind:
            closed = False
        elif self._depth.open:
            closed = True
        else:
            return None
        still_open = self._depth.went_on(closed=closed)
        self._depth = ThoughtDepth(fresh=False)
        return still_open

    def _count(self, text: str) -> None:
        text, self._tail = self._tail + text, ""
        done = 0
        for tag in tags(text):
            self._depth.pass_over(text[done : tag.start])
            behind = text[tag.start - 1] if tag.start else self._behind
            if tag.kind is Kind.OPEN:
                self._depth.opens(variant=tag.variant, behind=behind)
            elif tag.kind is Kind.CLOSE and not (behind and behind in QUOTES):
                self._depth.closes(variant=tag.variant)
            # A tag of another kind is text like any other here.
            done = tag.end if tag.kind in (Kind.OPEN, Kind.CLOSE) else tag.start
        keep = partial_tag(text[done:])
        self._depth.pass_over(text[done : len(text) - keep])
        self._tail = text[len(text) - keep :]
        self._behind = text[: len(text) - keep][-1:] or self._behind
