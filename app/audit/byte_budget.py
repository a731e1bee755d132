"""So many bytes at a time, and whoever comes later waits for its turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """First come, first served: a large one is not passed by small ones for ever. One that is
    larger than all there is has it to itself."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size_bytes: int) -> AsyncIterator[None]:
        """While it is open, they are taken."""
        size_bytes = min(size_bytes, self._max_bytes)
        if self._waiting or self._used_bytes + size_bytes > self._max_bytes:
            await self._turn(size_bytes)
        else:
            self._used_bytes += size_bytes
        try:
            yield
        finally:
            self._used_bytes -= size_bytes
            self._let_in()

    async def _turn(self, size_bytes: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in, and does not come
                self._used_bytes -= size_bytes
            self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if turn.done():  # cancelled
                self._waiting.popleft()
            elif self._used_bytes + size_bytes <= self._max_bytes:
                self._waiting.popleft()
                self._used_bytes += size_bytes
                turn.set_result(None)
            else:
                return
