"""Tells an engine to stop that goes on when its client has left: SGLang decodes to `max_tokens`.

No request waits for it: it is begun where a request is given up, and bounded in time and number.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.upstream.endpoint import Endpoint

log = structlog.get_logger()

# It only passes the id on to its scheduler: a worker that takes longer does not listen.
ABORT_SECONDS = 2.0
# Of a process that drains thousands at once; what is above has its connections closed all the same.
MAX_ABORTS = 1_000

Post = Callable[[Endpoint, str], Awaitable[None]]


# Told of each: the worker's name, and "ok", "failed" or "dropped".
Count = Callable[[str, str], None]


class Aborts:
    """`post(endpoint, rid)` tells the worker, and may raise `errors`, TimeoutError among them."""

    def __init__(self, post: Post, errors: tuple[type[Exception], ...], count: Count) -> None:
        self._post = post
        self._errors = errors
        self._count = count
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, endpoint: Endpoint, rid: str) -> None:
        """Returns at once. Raises nothing."""
        if len(self._running) >= MAX_ABORTS:
            self._count(endpoint.name, "dropped")
            return
        task = asyncio.get_running_loop().create_task(self._abort(endpoint, rid))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Lets those end that are on their way: the drain's are the last ones."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=ABORT_SECONDS)

    async def _abort(self, endpoint: Endpoint, rid: str) -> None:
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self._post(endpoint, rid)
        except self._errors as error:
            self._count(endpoint.name, "failed")
            log.warning("worker_abort_failed", worker=endpoint.name, reason=type(error).__name__)
        else:
            self._count(endpoint.name, "ok")
