"""What looks at something again and again, one look at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from structlog.testing import capture_logs
from structlog.typing import EventDict


class Rounds:
    """Its `sleep` ends when a test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._go = asyncio.Semaphore(0)
        self._asleep = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.release()
        await self._go.acquire()

    @asynccontextmanager
    async def running(self, run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        async def running() -> None:
            await run()

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(running())
            await self._asleep.acquire()
            yield
            task.cancel()

    async def look(self) -> list[EventDict]:
        """Once; what was logged meanwhile."""
        with capture_logs() as logs:
            self._go.release()
            await self._asleep.acquire()
        return logs
