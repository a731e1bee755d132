"""Who gets a worker, who waits for one, and who is told that there is none."""

import asyncio
from typing import Any

import pytest

from app.errors import Unavailable
from app.store.policy import Priority
from app.upstream.ask import Ask
from app.upstream.dispatcher import OVERTAKEN_MOST
from app.upstream.least_loaded import Candidate, LeastLoaded
from app.upstream.load import Demand
from tests.support.workers_asked import ask
from tests.unit.upstream.desk import desk_of, in_fake_time, settle

BATCH = Priority.BATCH


@in_fake_time
async def test_where_there_is_room_nobody_waits() -> None:
    desk = desk_of(None)
    async with desk.dispatcher.turn(ask(50)) as turn:
        assert turn.endpoint is desk.pool.endpoints[0]
        assert desk.sample("worker_in_flight", worker="w0:8000") == 1
        assert desk.sample("worker_prefill_tokens", worker="w0:8000") == 50
        turn.began()
        assert desk.sample("worker_prefill_tokens", worker="w0:8000") == 0
    assert desk.sample("worker_in_flight", worker="w0:8000") == 0
    assert desk.sample("placements_total", reason="rendezvous") == 1


@in_fake_time
async def test_the_second_long_prompt_waits_and_short_ones_pass_it() -> None:
    desk = desk_of(None)
    first, second = await desk.comes(ask(200)), await desk.comes(ask(200))
    short = await desk.comes(ask(10))
    assert (first.waits, second.waits, short.waits) == (False, True, False)
    assert second.entrance.waiting.place == 1
    assert desk.sample("queued_requests", priority="interactive") == 1
    assert first.turn is not None
    first.turn.began()
    await settle()
    assert not second.waits
    assert second.entrance.waiting.place == 0
    assert desk.sample("queued_requests", priority="interactive") == 0
    assert desk.sample("queue_wait_seconds_count", priority="interactive") == 2
    assert desk.sample("long_prefills_total") == 2


@in_fake_time
async def test_who_leaves_while_waiting_is_gone_from_the_queue() -> None:
    desk = desk_of({"max_concurrency": 1})
    first, second = await desk.comes(ask()), await desk.comes(ask())
    second.task.cancel()
    await settle()
    assert desk.dispatcher.waiting == 0
    await first.end()
    assert desk.pool.endpoints[0].in_flight == 0


@in_fake_time
async def test_who_leaves_in_the_moment_it_is_given_a_worker_gives_it_back() -> None:
    desk = desk_of({"max_concurrency": 1})
    async with desk.dispatcher.turn(ask()) as turn:
        waiting = await desk.comes(ask())
        turn.close()
        await asyncio.sleep(0)  # given, and not yet woken
        waiting.task.cancel()
        await settle()
    assert waiting.turn is None
    assert desk.pool.endpoints[0].load.streams == 0


class TestRefusals:
    @in_fake_time
    async def test_without_a_worker_it_is_told_at_once(self) -> None:
        desk = desk_of(None)
        desk.pool.endpoints[0].ready = False
        refused = await desk.comes(ask())
        assert isinstance(refused.error, Unavailable)
        assert refused.error.code == "no_available_workers"

    @in_fake_time
    async def test_who_waits_too_long_is_told_so_and_when_to_come_back(self) -> None:
        desk = desk_of({"max_concurrency": 1})
        await desk.comes(ask())
        late = await desk.comes(ask(wait_seconds=20.0))
        await asyncio.sleep(19.9)
        assert late.waits
        await asyncio.sleep(0.5)
        assert isinstance(late.error, Unavailable)
        assert (late.error.status, late.error.code) == (503, "queue_timeout")
        assert late.error.retry_after_seconds is not None
        assert desk.dispatcher.waiting == 0

    @in_fake_time
    async def test_who_waited_for_workers_that_went_away_is_told_that(self) -> None:
        desk = desk_of({"max_concurrency": 1})
        await desk.comes(ask())
        late = await desk.comes(ask(wait_seconds=20.0))
        desk.pool.lose(desk.pool.endpoints[0])
        await asyncio.sleep(21)
        assert late.error is not None
        assert late.error.code == "no_available_workers"

    @in_fake_time
    async def test_a_full_queue_sends_away_and_for_longer_the_fuller_it_is(self) -> None:
        desk = desk_of({"max_concurrency": 1}, queue_requests=2)
        await desk.comes(ask())
        for _ in range(2):
            assert (await desk.comes(ask())).waits
        refused = await desk.comes(ask())
        assert isinstance(refused.error, Unavailable)
        assert refused.error.code == "queue_full"
        desk.pool.endpoints[0].ready = False
        refused_later = await desk.comes(ask())
        assert refused.error.retry_after_seconds == 60
        assert refused_later.error is not None
        assert refused_later.error.retry_after_seconds == 60
        empty = desk_of(None)
        empty.pool.endpoints[0].ready = False
        assert (await empty.comes(ask())).error.retry_after_seconds == 5  # type: ignore[union-attr]  # it is refused

    @in_fake_time
    async def test_a_flood_does_not_keep_another_tenant_out_of_the_queue(self) -> None:
        desk = desk_of({"max_concurrency": 1}, queue_requests=4)
        await desk.comes(ask())
        flood = [await desk.comes(ask(tenant="flood")) for _ in range(4)]
        own = await desk.comes(ask(tenant="own"))
        assert own.waits
        assert [each.waits for each in flood] == [True, True, True, False]
        assert flood[-1].error is not None
        assert flood[-1].error.code == "queue_full"

    @in_fake_time
    async def test_without_a_queue_nobody_waits(self) -> None:
        desk = desk_of({"max_concurrency": 1}, queue_requests=0)
        await desk.comes(ask())
        refused = await desk.comes(ask())
        assert refused.error is not None
        assert refused.error.code == "queue_full"


@in_fake_time
async def test_who_needs_much_room_gets_it_in_a_flood_of_small_ones() -> None:
    desk = desk_of(None)
    small = [await desk.comes(ask(90)) for _ in range(11)]
    for each in small:
        if each.turn is not None:
            each.turn.began()
    large = await desk.comes(ask(900, tenant="own"))
    assert large.waits
    turns = 0
    while large.waits:
        small.append(await desk.comes(ask(90)))
        await next(each for each in small if each.turn and each.turn.is_open).end()
        for each in small:
            if each.turn is not None:
                each.turn.began()
        turns += 1
        assert turns < OVERTAKEN_MOST + 20
    assert desk.dispatcher.claimed == 0


@in_fake_time
async def test_batch_gets_its_turns_in_a_flood_of_interactive_ones() -> None:
    desk = desk_of({"max_concurrency": 1})
    running = await desk.comes(ask(tenant="flood"))
    flood = [await desk.comes(ask(tenant="flood")) for _ in range(20)]
    batch = await desk.comes(ask(tenant="own", priority=BATCH))
    for _ in range(8):
        await running.end()
        running = next(each for each in (*flood, batch) if each.turn and each.turn.is_open)
    assert running is batch


class TestWhatCanBeSeenOfWaiting:
    @in_fake_time
    async def test_its_place_and_the_time_that_it_will_take(self) -> None:
        desk = desk_of(
            {"max_concurrency": 1}, worker_prefill_tokens=10**6, long_prefill_tokens=10**6
        )
        first = await desk.comes(ask(5_000))
        assert first.entrance.waiting.seconds_left is None  # nobody knows how fast it reads
        await asyncio.sleep(5)
        assert first.turn is not None
        first.turn.began()  # 1,000 tokens a second, and some more at the beginning of a prompt
        assert first.entrance.waiting.seconds_left == 0
        one, other = await desk.comes(ask(3_000)), await desk.comes(ask(4_000))
        assert [each.entrance.waiting.place for each in (one, other)] == [1, 2]
        assert other.entrance.waiting.estimated_prompt_tokens == 4_000
        assert one.entrance.waiting.seconds_left == pytest.approx(3, rel=0.05)
        assert other.entrance.waiting.seconds_left == pytest.approx(7, rel=0.05)
        await first.end()
        await asyncio.sleep(1)
        assert one.entrance.waiting.seconds_left == pytest.approx(2, rel=0.05)
        await asyncio.sleep(3)
        assert one.entrance.waiting.seconds_left is None  # it should have been read by now

    @in_fake_time
    async def test_only_workers_that_can_take_it_shorten_its_time(self) -> None:
        """Of a pool by length: the one long worker reads, and what waits is read behind it."""
        limits = {"worker_prefill_tokens": 10**6, "long_prefill_tokens": 10**6}
        desk = desk_of({"max_concurrency": 1}, *[{"max_model_len": 1_000}] * 7, **limits)
        for endpoint in desk.pool.endpoints:
            now = asyncio.get_running_loop().time()
            seen = endpoint.load.reserve(Demand(10_000, 0), now - 10)
            endpoint.load.began(seen, now)
            endpoint.load.free(seen)
        await desk.comes(ask(10_000))
        behind = await desk.comes(ask(10_000))
        assert behind.waits
        assert behind.entrance.waiting.seconds_left == pytest.approx(20)
        await asyncio.sleep(4)
        assert behind.entrance.waiting.seconds_left == pytest.approx(16)


@in_fake_time
async def test_a_defect_with_one_request_stops_nobody_else() -> None:
    class Failing(LeastLoaded):
        def rank(self, ask: Ask, endpoints: Any, now: float) -> list[Candidate]:
            if ask.tenant == "odd" and desk.dispatcher.waiting:
                raise ZeroDivisionError
            return super().rank(ask, endpoints, now)

    desk = desk_of({"max_concurrency": 1}, ranking=Failing())
    running = await desk.comes(ask())
    odd = await desk.comes(ask(tenant="odd"))
    fine = await desk.comes(ask())
    await asyncio.sleep(2)
    await running.end()
    assert isinstance(odd.task.exception(), ZeroDivisionError)
    assert fine.turn is not None
