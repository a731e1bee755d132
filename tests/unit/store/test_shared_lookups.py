import asyncio

import pytest

from app.errors import Unavailable
from app.store.shared_lookups import SharedLookups


class Source:
    """Answers when told to, and counts the questions."""

    def __init__(self) -> None:
        self.questions = 0
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.questions += 1
        self.asked.set()
        return await asyncio.shield(self.answer)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_those_who_ask_at_once_share_one_question() -> None:
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=Clock())
    source = Source()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lookups.run("a", source)) for _ in range(10)]
        await source.asked.wait()
        source.answer.set_result("found")
    assert {task.result() for task in tasks} == {"found"}
    assert source.questions == 1


async def test_different_subjects_do_not_wait_for_each_other() -> None:
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=Clock())
    slow, quick = Source(), Source()
    quick.answer.set_result("quick")
    async with asyncio.TaskGroup() as group:
        group.create_task(lookups.run("slow", slow))
        await slow.asked.wait()
        assert await lookups.run("quick", quick) == "quick"
        slow.answer.set_result("slow")


async def test_a_failure_is_shared_and_not_remembered() -> None:
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=Clock())
    source = Source()
    results = asyncio.gather(*(lookups.run("a", source) for _ in range(3)), return_exceptions=True)
    await source.asked.wait()
    source.answer.set_exception(Unavailable("no"))
    assert [type(result) for result in await results] == [Unavailable] * 3
    assert source.questions == 1
    fresh = Source()
    fresh.answer.set_result("found")
    assert await lookups.run("a", fresh) == "found"


async def test_when_the_first_to_ask_leaves_another_asks_again() -> None:
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=Clock())
    source = Source()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(lookups.run("a", source))
        await source.asked.wait()
        others = [group.create_task(lookups.run("a", source)) for _ in range(3)]
        await asyncio.sleep(0)  # they wait now
        first.cancel()
        source.asked.clear()
        await source.asked.wait()
        source.answer.set_result("found")
    assert first.cancelled()
    assert [task.result() for task in others] == ["found"] * 3
    assert source.questions == 2


async def test_a_waiter_that_leaves_disturbs_nobody() -> None:
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=Clock())
    source = Source()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(lookups.run("a", source))
        await source.asked.wait()
        second = group.create_task(lookups.run("a", source))
        await asyncio.sleep(0)
        second.cancel()
        source.answer.set_result("found")
    assert first.result() == "found"
    assert second.cancelled()


async def test_nobody_joins_a_question_that_is_too_old() -> None:
    clock = Clock()
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=clock)
    old, new = Source(), Source()
    new.answer.set_result("new")
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(lookups.run("a", old))
        await old.asked.wait()
        clock.now = 5.0
        assert await lookups.run("a", new) == "new"
        old.answer.set_result("old")
    assert slow.result() == "old"


async def test_an_error_of_ours_reaches_only_the_one_who_asked() -> None:
    lookups: SharedLookups[str, str] = SharedLookups(max_age_seconds=5, clock=Clock())
    source = Source()
    source.answer.set_exception(ValueError("a defect"))
    with pytest.raises(ValueError):
        await lookups.run("a", source)
