"""An event loop whose time is its own: it never waits, and passes only when there is nothing else
to do. For code that waits with the loop's timers and does no I/O."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Nowhere(selectors.SelectSelector):
    """Instead of waiting for so long, so much time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("nothing will ever happen again")
        self.now += max(0.0, timeout)
        return super().select(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._nowhere = _Nowhere()
        super().__init__(self._nowhere)

    def time(self) -> float:
        return self._nowhere.now

    def pass_time(self, seconds: float) -> None:
        self.run_until_complete(asyncio.sleep(seconds))

    def settle(self, *after: Callable[[], object]) -> None:
        """All that can happen now has happened, once these have been called in the loop."""
        for call in after:
            self.call_soon(call)
        for _ in range(8):  # what one callback begins, the next round goes on with
            self.run_until_complete(asyncio.sleep(0))


def run_in_fake_time(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(work)
