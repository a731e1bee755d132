"""Who gets a worker, who waits for one, and who is told that there is none."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.errors import ColdPrefillTooLong, GatewayError, InvalidRequest, Unavailable
from app.pool_settings import PoolSettings
from app.store.policy import Priority
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.ask import Ask
from app.upstream.dispatcher import OVERTAKEN_MOST, Dispatcher, Entrance
from app.upstream.endpoint import Endpoint
from app.upstream.least_loaded import Candidate, LeastLoaded
from app.upstream.load import Report
from app.upstream.placement import Ranking
from app.upstream.pool import Pool
from app.upstream.turn import Turn
from tests.support.fake_time import run_in_fake_time
from tests.support.workers_asked import ask, pool_of

Test = Callable[..., Coroutine[Any, Any, None]]
BATCH = Priority.BATCH


def in_fake_time(test: Test) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_in_fake_time(test(*arguments, **named))

    return run


class Waiting:
    """A request in a task of its own, until it is told to end."""

    def __init__(self, entrance: Entrance) -> None:
        self.entrance = entrance
        self.turn: Turn | None = None
        self.error: GatewayError | None = None
        self._over = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.entrance as turn:
                self.turn = turn
                await self._over.wait()
        except GatewayError as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self.turn is None and self.error is None

    async def end(self) -> None:
        self._over.set()
        await self.task
        await settle()


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


class Desk:
    def __init__(self, pool: Pool, settings: PoolSettings, ranking: Ranking | None = None) -> None:
        self.registry = CollectorRegistry()
        self.pool = pool
        self.came: list[Waiting] = []
        self.dispatcher = Dispatcher(
            pool,
            ranking or LeastLoaded(),
            settings,
            PoolMetrics(self.registry),
            clock=asyncio.get_running_loop().time,
        )
        for endpoint in pool.endpoints:
            endpoint.load.report(Report(asyncio.get_running_loop().time(), 1_000))

    async def comes(self, asked: Ask, **named: Any) -> Waiting:
        waiting = Waiting(self.dispatcher.turn(asked, **named))
        self.came.append(waiting)
        await settle()
        return waiting

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"gateway_{name}", labels) or 0.0


def desk_of(
    *workers: dict[str, Any] | None, ranking: Ranking | None = None, **settings: Any
) -> Desk:
    """Workers that hold 1,000 tokens each."""
    values = {"long_prefill_tokens": 100, "held_output_share": 1.0} | settings
    rules = PoolSettings(**values)
    return Desk(pool_of(*workers, settings=rules), rules, ranking)


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
        assert (await empty.comes(ask())).error.retry_after_seconds == 5  # type: ignore[union-attr]

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


FORMATTED = {"response_format": {"type": "json_object"}}
INLINE = {"separation": "inline"}


class TestWhatIsAsked:
    @in_fake_time
    async def test_what_no_worker_can_do_is_refused_by_name(self) -> None:
        desk = desk_of(INLINE)
        refused = await desk.comes(ask(fields=FORMATTED))
        assert isinstance(refused.error, InvalidRequest)
        assert refused.error.param == "response_format"
        assert refused.error.code == "unsupported_parameter"

    @in_fake_time
    async def test_what_only_an_absent_worker_can_do_is_worth_another_try(self) -> None:
        desk = desk_of(INLINE, None)
        desk.pool.endpoints[1].ready = False
        refused = await desk.comes(ask(fields=FORMATTED))
        assert isinstance(refused.error, Unavailable)

    @in_fake_time
    async def test_without_any_worker_nothing_is_said_of_what_is_asked(self) -> None:
        desk = desk_of(INLINE)
        desk.pool.endpoints[0].ready = False
        assert isinstance((await desk.comes(ask(fields=FORMATTED))).error, Unavailable)

    @in_fake_time
    async def test_it_goes_where_it_can_be_done_however_busy(self) -> None:
        desk = desk_of(INLINE, None)
        for _ in range(3):
            given = await desk.comes(ask(fields=FORMATTED))
            assert given.turn is not None
            assert given.turn.endpoint is desk.pool.endpoints[1]

    @in_fake_time
    async def test_a_key_that_is_bound_to_tags_gets_workers_that_have_them_all(self) -> None:
        desk = desk_of({"tags": ["eu"]}, {"tags": ["eu", "gold"]})
        for _ in range(3):
            given = await desk.comes(ask(tags=frozenset({"eu", "gold"})))
            assert given.turn is not None
            assert given.turn.endpoint is desk.pool.endpoints[1]
        nowhere = await desk.comes(ask(tags=frozenset({"us"})))
        assert nowhere.error is not None
        assert nowhere.error.code == "no_available_workers"

    @in_fake_time
    async def test_more_than_may_be_read_anew_is_refused_where_nobody_knows_it(self) -> None:
        desk = desk_of(None)
        refused = await desk.comes(ask(100, max_cold_tokens=50, chat=False))
        assert isinstance(refused.error, ColdPrefillTooLong)
        assert refused.error.param == "prompt"


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


class TestRetries:
    @in_fake_time
    async def test_it_goes_to_one_that_has_not_failed(self) -> None:
        desk = desk_of(None, None)
        first, second = desk.pool.endpoints
        assert desk.dispatcher.may_retry(ask(), [first], retry=True)
        async with desk.dispatcher.turn(ask(), but=[first]) as turn:
            assert turn.endpoint is second
        assert not desk.dispatcher.may_retry(ask(), [first, second], retry=True)

    @in_fake_time
    async def test_not_more_than_a_share_of_what_runs_is_tried_again(self) -> None:
        desk = desk_of(None, None, retry_share=0.1)
        dispatcher, first = desk.dispatcher, desk.pool.endpoints[:1]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(dispatcher.turn(ask(1), retry=True))
            assert not dispatcher.may_retry(ask(1), first, retry=True)
            assert desk.sample("retries_withheld_total") == 1
            # What costs its worker nothing goes on.
            assert dispatcher.may_retry(ask(1), first, retry=False)
            for _ in range(10):
                await stack.enter_async_context(dispatcher.turn(ask(1)))
            assert dispatcher.may_retry(ask(1), first, retry=True)
        assert dispatcher.may_retry(ask(1), first, retry=True)

    @in_fake_time
    async def test_one_that_finds_no_worker_is_over(self) -> None:
        desk = desk_of(None, None)
        for _ in range(3):
            await desk.comes(ask(), but=desk.pool.endpoints, retry=True)
        assert desk.dispatcher.may_retry(ask(), desk.pool.endpoints[:1], retry=True)


class TestAnEjectedWorker:
    @in_fake_time
    async def test_it_gets_nothing_and_then_one_request_at_a_time(self) -> None:
        desk = desk_of(None)
        (worker,) = desk.pool.endpoints
        worker.ejected_until = asyncio.get_running_loop().time() + 5
        assert (await desk.comes(ask(1))).error is not None
        await asyncio.sleep(5)
        trial = await desk.comes(ask(1))
        assert trial.turn is not None
        assert (await desk.comes(ask(1))).error is not None
        await trial.end()
        assert (await desk.comes(ask(1))).turn is not None

    @in_fake_time
    async def test_who_waits_gets_it_as_soon_as_its_time_is_over(self) -> None:
        desk = desk_of({"max_concurrency": 1})
        (worker,) = desk.pool.endpoints
        running = await desk.comes(ask(1))
        waiting = await desk.comes(ask(1))
        worker.ejected_until = asyncio.get_running_loop().time() + 5
        await running.end()
        assert waiting.waits
        await asyncio.sleep(6.5)
        assert not waiting.waits


class Preferring:
    """Ranks one worker first, with what it would save and is worth."""

    def __init__(self, first: int, saved_tokens: int, patience_seconds: float) -> None:
        self.first = first
        self.saved_tokens = saved_tokens
        self.patience_seconds = patience_seconds

    def rank(self, ask: Ask, endpoints: list[Endpoint], now: float) -> list[Candidate]:
        first = endpoints[self.first]
        rest = [Candidate(endpoint) for endpoint in endpoints if endpoint is not first]
        return [Candidate(first, self.saved_tokens, self.patience_seconds), *rest]


class TestPatience:
    @in_fake_time
    async def test_the_worker_that_knows_it_is_waited_for_but_not_for_ever(self) -> None:
        desk = desk_of(
            {"max_concurrency": 1}, {"max_concurrency": 1}, ranking=Preferring(0, 80, 10.0)
        )
        first, second = desk.pool.endpoints
        running = await desk.comes(ask())
        assert running.turn is not None
        assert (running.turn.endpoint, running.turn.expected_cached_tokens) == (first, 80)
        patient, impatient = await desk.comes(ask()), await desk.comes(ask())
        await asyncio.sleep(9)
        assert patient.waits
        await running.end()
        assert patient.turn is not None
        assert patient.turn.endpoint is first
        await asyncio.sleep(2)
        assert impatient.turn is not None
        assert impatient.turn.endpoint is second

    @in_fake_time
    async def test_it_is_not_waited_for_where_the_queue_is_full(self) -> None:
        desk = desk_of(
            {"max_concurrency": 1}, None, ranking=Preferring(0, 80, 10.0), queue_requests=0
        )
        await desk.comes(ask())
        squeezed = await desk.comes(ask())
        assert squeezed.turn is not None
        assert squeezed.turn.endpoint is desk.pool.endpoints[1]

    @in_fake_time
    async def test_it_is_not_waited_for_once_it_is_drained(self) -> None:
        desk = desk_of({"max_concurrency": 1}, None, ranking=Preferring(0, 80, 50.0))
        await desk.comes(ask())
        waiting = await desk.comes(ask())
        desk.pool.drain(desk.pool.endpoints[0])
        await settle()
        assert waiting.turn is not None
        assert waiting.turn.endpoint is desk.pool.endpoints[1]


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
        first.turn.began()
        assert first.entrance.waiting.seconds_left == 0
        one, other = await desk.comes(ask(3_000)), await desk.comes(ask(4_000))
        assert [each.entrance.waiting.place for each in (one, other)] == [1, 2]
        assert other.entrance.waiting.estimated_prompt_tokens == 4_000
        assert one.entrance.waiting.seconds_left == pytest.approx(3)
        # Those before it, with what each request costs beside its prompt.
        assert other.entrance.waiting.seconds_left == pytest.approx(8)
        await first.end()
        await asyncio.sleep(1)
        assert one.entrance.waiting.seconds_left == pytest.approx(2)


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


@in_fake_time
async def test_a_second_try_goes_to_the_worker_that_has_the_prompt() -> None:
    desk = desk_of(None, None, None)
    reader = desk.pool.endpoints[1]
    await desk.comes(ask(50, read_by=reader))
    given = await desk.comes(replace(ask(50), read_by=reader))
    assert given.turn is not None
    assert (given.turn.endpoint, given.turn.expected_cached_tokens) == (reader, 50)
