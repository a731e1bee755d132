"""What a request owes is done, whoever cancels the request."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.gateway.endings import Endings

WITHIN_SECONDS = 10.0  # only spent on failure


async def test_an_ending_goes_on_though_whoever_waits_for_it_is_cancelled() -> None:
    endings = Endings()
    may_end = asyncio.Event()
    done: list[str] = []

    async def ending() -> None:
        await may_end.wait()
        done.append("done")

    waiting = asyncio.ensure_future(endings.run(ending()))
    await asyncio.sleep(0)
    for _ in range(2):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    closing = asyncio.ensure_future(endings.close(WITHIN_SECONDS))
    may_end.set()
    await closing
    assert done == ["done"]


async def test_closing_waits_for_endings_that_have_not_begun() -> None:
    endings = Endings()
    goes_on = asyncio.Event()
    done: list[str] = []

    async def ending() -> None:
        await asyncio.sleep(0)
        done.append("done")

    async def request() -> None:
        with endings.expected():
            await goes_on.wait()
            endings.begin(ending())

    requests = [asyncio.ensure_future(request()) for _ in range(2)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(endings.close(WITHIN_SECONDS))
    await asyncio.sleep(0)
    assert not closing.done()
    goes_on.set()
    await closing
    assert done == ["done", "done"]
    await asyncio.gather(*requests)


async def test_what_takes_too_long_is_left_and_told() -> None:
    endings = Endings()
    task = endings.begin(asyncio.Event().wait())  # type: ignore[arg-type]  # its result is not used
    with capture_logs() as logs:
        await endings.close(0.01)
    assert [(line["event"], line["requests"]) for line in logs] == [("request_endings_left", 1)]
    task.cancel()


async def test_with_nothing_to_end_closing_is_quick() -> None:
    await Endings().close(0.0)
