"""Work that blocks, and may never come back: a disk, a mount, a socket."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises. Given up, its thread is left behind, and as a daemon does not
    keep the process from ending, as those of asyncio's own executor would."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T) -> None:
        if not done.done():
            done.set_result(result)

    def tell_of(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    def run() -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it who waited
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - handed on to whoever waits
                loop.call_soon_threadsafe(tell_of, error)
            else:
                loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, daemon=True).start()
    return await done
