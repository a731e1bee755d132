"""Tags that mean something in a model's text: where they are, and what may still become one.

A model that writes `< Think >` means what `<think>` means, so case and white space inside a tag
make no difference to where a thought begins. Only an exact tag ends one that the template opened:
what is taken for an end by mistake would show the rest of the thought.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"
CALL_TAG = "<tool_call>"
CALL_CLOSE_TAG = "</tool_call>"
FUNCTION_TAG = "<function="
FUNCTION_CLOSE_TAG = "</function>"
CONTROL_TAGS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

MAX_TAG_SPACES = 8  # in each of the three places; more of them is no tag
# "<", "/" and ">", the longest name, and the white space.
MAX_TAG_CHARACTERS = len("</thinking>") + 3 * MAX_TAG_SPACES


def _in_any_case(name: str) -> str:
    """`re.IGNORECASE` would also take the letters of other languages that look alike."""
    return "".join(f"[{letter}{letter.upper()}]" for letter in name)


_SPACE = rf"\s{{0,{MAX_TAG_SPACES}}}"
_TAG = re.compile(
    rf"<{_SPACE}(?P<close>/?){_SPACE}{_in_any_case('think')}(?:{_in_any_case('ing')})?{_SPACE}>"
    rf"|(?P<call>{CALL_TAG})|(?P<call_close>{CALL_CLOSE_TAG})|(?P<function>{FUNCTION_TAG})"
    rf"|(?P<control>{'|'.join(map(re.escape, CONTROL_TAGS))})"
)
_NAMES = (
    OPEN_TAG, CLOSE_TAG, "<thinking>", "</thinking>", CALL_TAG, CALL_CLOSE_TAG, FUNCTION_TAG,
    *CONTROL_TAGS,
)  # fmt: skip


class Kind(Enum):
    OPEN = auto()
    CLOSE = auto()
    CALL = auto()
    FUNCTION = auto()  # a call without the tag around it
    OTHER = auto()  # left over; never text


_KINDS = {
    None: Kind.OPEN, "close": Kind.CLOSE, "call": Kind.CALL, "function": Kind.FUNCTION,
    "call_close": Kind.OTHER, "control": Kind.OTHER,
}  # fmt: skip


class Tag(NamedTuple):
    """`text[start:end]`. A `variant` is not written as the template writes it."""

    kind: Kind
    start: int
    end: int
    variant: bool


def tags(text: str) -> Iterator[Tag]:
    """All of them, in order."""
    for match in _TAG.finditer(text):
        name = match.lastgroup
        kind = _KINDS[name]
        if name == "close" and not match["close"]:
            kind = Kind.OPEN
        variant = kind in (Kind.OPEN, Kind.CLOSE) and match[0] not in (OPEN_TAG, CLOSE_TAG)
        yield Tag(kind, match.start(), match.end(), variant)


def partial_tag(text: str) -> int:
    """Length of the end of `text` that may still become a tag; below MAX_TAG_CHARACTERS."""
    at = text.rfind("<", max(0, len(text) - MAX_TAG_CHARACTERS + 1))
    if at < 0:
        return 0
    begun = "".join(text[at:].split()).lower()
    return len(text) - at if any(name.startswith(begun) for name in _NAMES) else 0


def overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `tag`, whose `<` is its
    only one."""
    at = text.rfind("<", max(0, len(text) - len(tag) + 1))
    return len(text) - at if at >= 0 and tag.startswith(text[at:]) else 0
