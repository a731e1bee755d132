"""A request that runs, and who shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

TICK_SECONDS = 1.0  # what counts seconds has to move each second


@dataclass(slots=True)
class Running:
    """`expected_seconds` to the first token is a guess, None where there is nothing to guess by.
    `pieces` of the answer have come: about as many tokens."""

    step: str
    prompt_tokens: int
    limit_seconds: float
    expected_seconds: float | None = None
    pieces: int = 0


class Display(Protocol):
    def show(self, running: Running, seconds: float) -> None:
        """Called each second."""

    def clear(self) -> None:
        """The request has ended."""


@asynccontextmanager
async def shown(display: Display, running: Running) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    since = loop.time()

    async def tick() -> None:
        while True:
            display.show(running, loop.time() - since)
            await asyncio.sleep(TICK_SECONDS)

    ticking = loop.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        display.clear()
