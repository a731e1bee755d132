import asyncio

import pytest

from app.audit.byte_budget import ByteBudget


class User:
    """Takes its bytes in a task of its own, and holds them until it is let go."""

    def __init__(self, budget: ByteBudget, size_bytes: int) -> None:
        self.inside = False
        self.go = asyncio.Event()
        self.task = asyncio.ensure_future(self._use(budget, size_bytes))

    async def _use(self, budget: ByteBudget, size_bytes: int) -> None:
        async with budget.of(size_bytes):
            self.inside = True
            await self.go.wait()

    async def end(self) -> None:
        self.go.set()
        await self.task


async def users(budget: ByteBudget, *sizes: int) -> list[User]:
    made = [User(budget, size) for size in sizes]
    await asyncio.sleep(0)
    return made


async def test_what_fits_is_in_at_once_and_what_does_not_waits_for_its_turn() -> None:
    first, second, large, small = await users(ByteBudget(10), 4, 6, 8, 1)
    assert [one.inside for one in (first, second, large, small)] == [True, True, False, False]
    await first.end()
    await asyncio.sleep(0)
    assert (large.inside, small.inside) == (False, False)
    await second.end()
    await asyncio.sleep(0)
    assert (large.inside, small.inside) == (True, True)
    await large.end()
    await small.end()


async def test_one_that_is_larger_than_all_has_it_to_itself() -> None:
    huge, small = await users(ByteBudget(10), 100, 1)
    assert (huge.inside, small.inside) == (True, False)
    await huge.end()
    await small.end()


@pytest.mark.parametrize("let_in", [False, True])
async def test_whoever_is_cancelled_while_waiting_takes_nothing(let_in: bool) -> None:
    budget = ByteBudget(10)
    first, waiting, next_one = await users(budget, 10, 10, 10)
    if let_in:  # in the same turn of the loop
        first.go.set()
        await first.task
    waiting.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting.task
    if not let_in:
        await first.end()
    await asyncio.sleep(0)
    assert next_one.inside
    await next_one.end()
    (last,) = await users(budget, 10)
    assert last.inside
    await last.end()
