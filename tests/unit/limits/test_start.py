"""What runs behind the limits is kept running."""

import asyncio

import pytest

from app.limits import start
from app.limits.start import keep_running


async def test_a_defect_ends_neither_the_task_nor_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start, "RESTART_SECONDS", 0)
    began: list[int] = []
    third = asyncio.Event()

    async def work() -> None:
        began.append(1)
        if len(began) < 3:
            raise RuntimeError("a defect")
        third.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(keep_running(work))
    async with asyncio.timeout(60):  # only spent on failure
        await third.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
