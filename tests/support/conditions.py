"""Waiting for what has to come true, instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.005
# More than this between two looks is the machine standing still, and what is waited for with it.
MOVING_SECONDS = 4 * POLL_SECONDS
LOOKING_SECONDS = 0.25  # likewise, where a look asks a server or a database


class Moving:
    """Seconds that have passed, without those in which this process stood still."""

    def __init__(self, at_most: float) -> None:
        """`at_most` so many pass between two looks."""
        self._at_most = at_most
        self._looked_at = asyncio.get_running_loop().time()
        self._seconds = 0.0

    def seconds(self) -> float:
        """To be asked at each look."""
        now = asyncio.get_running_loop().time()
        self._seconds += min(now - self._looked_at, self._at_most)
        self._looked_at = now
        return self._seconds


async def eventually(condition: Callable[[], bool], within: float, what: str) -> None:
    """Returns once `condition` holds; fails after `within` seconds."""
    passed = Moving(MOVING_SECONDS)
    while not condition():
        if passed.seconds() > within:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


async def eventually_found(
    find: Callable[[], Awaitable[T | None]],
    within: float,
    what: str,
    *,
    every: float = POLL_SECONDS,
) -> T:
    """What `find` returns, once that is not None; `every` spares what it asks."""
    passed = Moving(every + LOOKING_SECONDS)
    while True:
        found = await find()
        if found is not None:
            return found
        if passed.seconds() > within:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(every)


STILL_SECONDS = 0.2  # on a loaded machine, too, much longer than a loop's turn


async def settled(value: Callable[[], int], within: float) -> None:
    """Returns once `value` has stopped changing."""
    passed = Moving(MOVING_SECONDS)
    seen, since, now = value(), 0.0, 0.0
    while now - since < STILL_SECONDS:
        await asyncio.sleep(POLL_SECONDS)
        now = passed.seconds()
        if value() != seen:
            seen, since = value(), now
        assert now < within, f"still changing after {within:g} s"
