"""Ending a block of the pipeline from outside, with what comes after left undisturbed."""

import asyncio

import pytest

from app.errors import ClientDisconnected, Unavailable
from app.gateway.interruption import Interruption

GONE = ClientDisconnected("gone")


async def test_the_reason_is_raised_where_the_block_ends() -> None:
    with pytest.raises(ClientDisconnected):
        async with Interruption() as interruption:
            asyncio.get_running_loop().call_soon(interruption.interrupt, GONE)
            await asyncio.Event().wait()


async def test_what_comes_after_is_not_cancelled_again() -> None:
    with pytest.raises(ClientDisconnected):
        async with Interruption() as interruption:
            asyncio.get_running_loop().call_soon(interruption.interrupt, GONE)
            await asyncio.Event().wait()
    await asyncio.sleep(0)  # settling and auditing would be here
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_first_reason_counts() -> None:
    with pytest.raises(ClientDisconnected):
        async with Interruption() as interruption:
            interruption.interrupt(GONE)
            interruption.interrupt(Unavailable("too late"))
            await asyncio.Event().wait()


async def test_a_block_that_was_ending_anyway_is_interrupted_all_the_same() -> None:
    with pytest.raises(ClientDisconnected):
        async with Interruption() as interruption:
            interruption.interrupt(GONE)
    await asyncio.sleep(0)


async def test_the_blocks_own_error_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="own"):
        async with Interruption() as interruption:
            interruption.interrupt(GONE)
            raise ValueError("own")
    await asyncio.sleep(0)


async def test_after_the_block_nothing_is_interrupted() -> None:
    async with Interruption() as interruption:
        pass
    interruption.interrupt(GONE)
    await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def run() -> None:
        async with Interruption():
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
