"""How long reading a prompt takes. No I/O and no clock.

A token at the end of a long prompt costs many times one at its beginning, as it attends to all that
stands before it. Work is therefore told in tokens at the beginning of a prompt, and a worker's
speed in these: seen on prompts of any length it says how long any other takes.
"""

from collections.abc import Iterable
from typing import NamedTuple

# Reading N tokens takes as long as N + N^2 / this at the beginning: of the work for 1M tokens it
# is five sixths.
ATTENTION_TOKENS = 211_000


def work_of(tokens: int, cached_tokens: int = 0) -> int:
    """Of reading `tokens` behind `cached_tokens` that need not be read."""
    return tokens + tokens * (2 * cached_tokens + tokens) // ATTENTION_TOKENS


class Reader(NamedTuple):
    """A worker: how long it still reads what it has, and how much work it does in a second."""

    seconds: float
    speed: float


def seconds_until_read(work: float, readers: Iterable[Reader]) -> float:
    """Until they have done so much between them, each as soon as it has read what it has. There is
    one at least."""
    free = sorted(readers)
    at, speed = free[0]
    for reader in free[1:]:
        more = (reader.seconds - at) * speed
        if more >= work:
            break
        work -= more
        at = reader.seconds
        speed += reader.speed
    return at + work / speed
