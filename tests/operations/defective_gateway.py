"""`gateway`, with defects that quote what they failed on: run as a program, with its arguments.

A request whose last message has the word CRASH fails within the pipeline, and leaves a task and a
thread behind that fail, too, each with the prompt in its words.
"""

import asyncio
import gc
import threading
from typing import Any

from app.cli import main
from app.gateway import pipeline

CRASH = "crash-here"

prepare = pipeline.prepare


class Defect(Exception):
    pass


async def _fail(words: str) -> None:
    raise Defect(words)


def _fail_in_a_thread(words: str) -> None:
    raise Defect(words)


async def failing_prepare(request: Any, *rest: Any) -> Any:
    words = str(request.sent)
    if CRASH not in words:
        return await prepare(request, *rest)
    task = asyncio.ensure_future(_fail(words))
    await asyncio.wait([task])
    del task
    gc.collect()  # asyncio complains of it now
    thread = threading.Thread(target=_fail_in_a_thread, args=(words,))
    thread.start()
    thread.join()
    try:
        raise Defect(words)
    except Defect as cause:
        raise KeyError(words) from cause


if __name__ == "__main__":
    pipeline.prepare = failing_prepare  # type: ignore[assignment]  # takes what it passes on
    main()
