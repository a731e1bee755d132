"""The ends of requests, owned by the application: whoever is cancelled ends all the same."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

log = structlog.get_logger()


class Endings:
    """A request's task may be cancelled at any moment, and again while it ends; what it owes the
    limits and the audit log is then done by a task that nobody but the application cancels."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._expected = 0
        self._none_expected = asyncio.Event()
        self._none_expected.set()

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Around a request, which begins its ending before it leaves."""
        self._expected += 1
        self._none_expected.clear()
        try:
            yield
        finally:
            self._expected -= 1
            if not self._expected:
                self._none_expected.set()

    def begin(self, ending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """What `ending` is of may not change any more. It raises nothing."""
        task = asyncio.get_running_loop().create_task(ending)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, ending: Coroutine[Any, Any, None]) -> None:
        """To its end, unless cancelled: then it goes on alone."""
        await asyncio.shield(self.begin(ending))

    async def close(self, timeout_seconds: float) -> None:
        """Waits for those that run, and for those that are to come: a server that is in a hurry
        cancels its requests and waits for none."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._none_expected.wait()
                if self._running:
                    await asyncio.wait(self._running)
        except TimeoutError:
            log.error("request_endings_left", requests=self._expected + len(self._running))
