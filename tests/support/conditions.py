"""Waiting for what has to come true, instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.005


async def eventually(condition: Callable[[], bool], within: float, what: str) -> None:
    """Returns once `condition` holds; fails after `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
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
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = await find()
        if found is not None:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(every)


STILL_SECONDS = 0.2  # on a loaded machine, too, much longer than a loop's turn


async def settled(value: Callable[[], int], within: float) -> None:
    """Returns once `value` has stopped changing."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    seen, since = value(), loop.time()
    while loop.time() - since < STILL_SECONDS:
        if value() != seen:
            seen, since = value(), loop.time()
        assert loop.time() < deadline, f"still changing after {within:g} s"
        await asyncio.sleep(POLL_SECONDS)
