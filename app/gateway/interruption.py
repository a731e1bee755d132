"""Ends a block of the pipeline from outside: the client left, or the drain is over.

The task is cancelled once, so that whatever it awaits lets go, and the reason is raised where the
block ends. Cleaning up after that is not cancelled again, unlike in a framework's cancel scope:
settling and auditing come after, and must run.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from app.errors import GatewayError


class Interruption:
    """`async with Interruption() as interruption`, then `interruption.interrupt(error)`."""

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._error: GatewayError | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        return self

    def interrupt(self, error: GatewayError) -> None:
        """The first reason counts. Does nothing once the block has ended."""
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        if kind is not asyncio.CancelledError:
            # The block ended before the cancellation reached it; take that back.
            with contextlib.suppress(asyncio.CancelledError):  # the one to be taken back
                await asyncio.sleep(0)
        if task.uncancel() == 0 and kind in (None, asyncio.CancelledError):
            raise self._error from None
