"""Which worker a request gets: one that can do it, has not failed it and knows it best."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from app.errors import ColdPrefillTooLong, InvalidRequest, Unavailable
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.least_loaded import Candidate
from tests.support.workers_asked import ask
from tests.unit.upstream.desk import desk_of, in_fake_time, settle

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


@in_fake_time
async def test_a_second_try_goes_to_the_worker_that_has_the_prompt() -> None:
    desk = desk_of(None, None, None)
    reader = desk.pool.endpoints[1]
    await desk.comes(ask(50, read_by=reader))
    given = await desk.comes(replace(ask(50), read_by=reader))
    assert given.turn is not None
    assert (given.turn.endpoint, given.turn.expected_cached_tokens) == (reader, 50)
