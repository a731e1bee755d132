"""A tool call that stands in the text, gathered until it is whole."""

from app.protocol.tags import CALL_CLOSE_TAG, FUNCTION_CLOSE_TAG, FUNCTION_TAG, Tag

# Behind `<tool_call>`, before the `{` or `<function=` that makes a call of it.
MAX_LEAD_CHARACTERS = 64
MAX_CALL_CHARACTERS = 1024 * 1024
MAX_CLOSING_TAGS = 16  # of a call; all but the last one stand inside its arguments


def call_follows(text: str, tag: Tag) -> bool | None:
    """Whether the `<tool_call>` begins a call, or is only spoken of; None: not known yet."""
    lead = text[tag.end : tag.end + MAX_LEAD_CHARACTERS]
    begun = lead.lstrip()
    if begun.startswith(("{", FUNCTION_TAG)):
        return True
    if FUNCTION_TAG.startswith(begun) and len(lead) < MAX_LEAD_CHARACTERS:
        return None
    return False


class CallText:
    """A `bare` call has no `<tool_call>` around it."""

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare
        self._pieces: list[str] = []
        self._characters = 0
        self._closings = 0
        self.closing = FUNCTION_CLOSE_TAG if bare else CALL_CLOSE_TAG

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self._characters += len(text)

    def closed(self) -> str:
        """The markup up to a closing tag, which was just added. It may stand in an argument."""
        self._closings += 1
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._bare else self._pieces[0][: -len(self.closing)]

    @property
    def too_long(self) -> bool:
        return self._characters > MAX_CALL_CHARACTERS or self._closings > MAX_CLOSING_TAGS

    @property
    def text(self) -> str:
        return "".join(self._pieces)
