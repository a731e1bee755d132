"""So many at a time for each of several, so that none of them keeps the others waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Lane:
    turns: asyncio.Semaphore
    users: int = 0


class Turns:
    """`async with turns.of(key)` waits until fewer than `at_once` of that key are in it."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lanes: dict[str, _Lane] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        lane = self._lanes.setdefault(key, _Lane(asyncio.Semaphore(self._at_once)))
        lane.users += 1
        try:
            async with lane.turns:
                yield
        finally:
            lane.users -= 1
            if lane.users == 0:
                del self._lanes[key]
