"""What a filter looks for, and what it does about it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

BEYOND_ASCII = "\x80"  # in a rule's `firsts`: any character that is not ASCII


class Action(StrEnum):
    """What becomes of a match, the gravest last."""

    FLAG = "flag"  # counted and noted; the text stays
    MASK = "mask"  # replaced
    BLOCK = "block"  # ends the answer before the match; a prompt that holds one is refused


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern for the engine `regex`, in its version 0 (the syntax of `re`).

    `bound` is the longest match, in characters of normalised text, together with what the pattern
    looks at behind it; `behind` is how far it looks back. `firsts` holds the ASCII characters that
    a match may begin with, and BEYOND_ASCII if it may begin with any other; None: unknown. A match
    counts where `valid`, given its normalised text, says so. `then` is one character class:
    characters that follow a match and are of it are hidden with it, however many. `replacement`
    stands where the match was; it holds nothing that JSON escapes.
    """

    id: str
    pattern: str
    bound: int
    behind: int = 0
    firsts: frozenset[str] | None = None
    valid: Callable[[str], bool] | None = None
    then: str | None = None
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A match, by its place in the text that was scanned, in characters: [start, end)."""

    rule: str
    action: Action
    start: int
    end: int
