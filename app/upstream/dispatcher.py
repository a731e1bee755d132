"""Requests, given to workers: at once where there is room, else in their turn.

What decides is without I/O: who is next (`fair_queue.py`), which worker (`placement.py`), whether
it has room (`load.py`). Here is what waits. Nothing runs for a request: whatever makes room has the
queue looked through once, in the same round of the loop.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from types import TracebackType

from app.errors import Unavailable
from app.protocol.request import Json
from app.settings.pool import PoolSettings
from app.store.policy import Priority
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.ask import Ask
from app.upstream.claims import Claims, Waiter, WaiterTicket, seconds_left
from app.upstream.endpoint import Endpoint
from app.upstream.engines import unsupported
from app.upstream.fair_queue import FairQueue, Place, QueueFull
from app.upstream.placement import NO_CLAIMS, Option, Ranking, choose, eligible, options
from app.upstream.pool import RETRY_AFTER_SECONDS, Pool
from app.upstream.refusals import no_worker, queue_full, queue_timeout, unsupported_parameter
from app.upstream.turn import Position, Turn, Waiting

# While somebody waits: for deadlines, for patience that is over, for workers ejected until now.
LOOK_AGAIN_SECONDS = 0.25
# Which worker would be best is asked again so often: hashes are looked up for it.
RANKED_SECONDS = 1.0
# Where everybody stands, for who wants to be told, is counted so often.
COUNTED_SECONDS = 1.0
# After so many have been served before it, a worker is kept free for who needs more room than ever
# comes by itself.
OVERTAKEN_MOST = 16
MAX_RETRY_AFTER_SECONDS = 60.0  # SDKs obey at most this

LAST_PLACE = Place(1, 0)


class Dispatcher:
    """One for each process, in one loop."""

    def __init__(
        self,
        pool: Pool,
        ranking: Ranking,
        settings: PoolSettings,
        metrics: PoolMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._ranking = ranking
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._queue: FairQueue[Waiter] = FairQueue(
            settings.queue_requests,
            long_tokens=settings.long_prefill_tokens,
            longest_tokens=settings.worker_prefill_tokens,
        )
        self._claims = Claims()
        self._open = 0
        self._retries = 0
        self._pump_due = False
        self._look_again: asyncio.TimerHandle | None = None
        self._places: dict[int, Place] = {}
        self._counted_at = float("-inf")
        pool.on_change = self._pool_changed

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker."""
        return len(self._queue)

    @property
    def claimed(self) -> int:
        """How many workers are kept free for somebody who waits."""
        return len(self._claims.of)

    # -- what the data path asks

    def turn(self, ask: Ask, *, but: Collection[Endpoint] = (), retry: bool = False) -> "Entrance":
        """`async with` it: a Turn on a worker that is none of `but`, as soon as there is one.
        `retry`: it counts as a second try.

        Raises Unavailable (`no_available_workers`, `queue_full`, `queue_timeout`), InvalidRequest
        (`unsupported_parameter`) and ColdPrefillTooLong.
        """
        return Entrance(self, ask, but, retry=retry)

    def may_retry(self, ask: Ask, failed: Collection[Endpoint], *, retry: bool) -> bool:
        """Whether another worker could take it; and of what counts as a second try, whether not too
        many are running: where everything fails, trying twice would double the load."""
        if not eligible(ask, self._pool.endpoints, failed, self._clock()):
            return False
        if not retry or self._retries < max(1.0, self._settings.retry_share * self._open):
            return True
        self._metrics.retry_withheld()
        return False

    async def enter(self, ask: Ask, but: Collection[Endpoint], waiting: Waiting) -> Turn:
        """See `turn`. Whoever gets one closes it."""
        now = self._clock()
        found = self._options(ask, but, now)
        if not found:
            self._refuse_unsupported(ask.fields)
            raise no_worker(self._retry_after())
        if not len(self._queue):
            option = choose(found, now, waited_seconds=0.0)
            if option is not None:
                return self._give(option)
        return await self._wait(Waiter(ask, but, now, found, now, _future()), waiting)

    # -- waiting

    async def _wait(self, waiter: Waiter, waiting: Waiting) -> Turn:
        ticket = self._enqueue(waiter)
        if ticket is None:
            return self._squeeze_in(waiter)
        waiting.in_line = lambda: self._position(ticket)
        try:
            return await waiter.given
        except BaseException:  # cancellation too, also in the moment in which it was given one
            if _has_turn(waiter.given):
                waiter.given.result().close()
            raise
        finally:
            waiting.in_line = None
            self._leave(ticket)

    def _enqueue(self, waiter: Waiter) -> WaiterTicket | None:
        """None where the queue is full, also after all have been served who can be."""
        best = waiter.options[0].demand
        for _ in range(2):
            try:
                ticket, lost = self._queue.push(
                    waiter,
                    tenant=waiter.ask.tenant,
                    priority=waiter.ask.priority,
                    long=best.cold_tokens > self._settings.long_prefill_tokens,
                    cold_tokens=best.cold_tokens,
                )
            except QueueFull:
                self._pump()
                continue
            if lost is not None:
                self._fail(lost, queue_full(self._retry_after()))
            self._observe_depth()
            self._wake()
            return ticket
        return None

    def _squeeze_in(self, waiter: Waiter) -> Turn:
        """What could wait for the worker that suits it best, but for the queue's being full, goes
        to any that has room. Raises Unavailable."""
        now = self._clock()
        option = choose(waiter.options, now, waited_seconds=None, claims=self._claims.of)
        if option is None:
            raise queue_full(self._retry_after())
        return self._give(option)

    def _leave(self, ticket: WaiterTicket) -> None:
        self._queue.leave(ticket)
        self._claims.drop(ticket.item)
        self._observe_depth()
        if not len(self._queue) and self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _fail(self, ticket: WaiterTicket, error: Exception) -> None:
        """It waits no longer. Whoever awaits it sees to the rest."""
        self._queue.leave(ticket)
        self._claims.drop(ticket.item)
        if not ticket.item.given.done():
            ticket.item.given.set_exception(error)

    # -- serving those that wait

    def _pool_changed(self) -> None:
        for ticket in self._queue.order():
            ticket.item.ranked_at = float("-inf")
        self._wake()

    def _wake(self) -> None:
        """The queue is looked through in this round of the loop, once."""
        if not len(self._queue) or self._pump_due:
            return
        loop = asyncio.get_running_loop()
        loop.call_soon(self._pump)
        self._pump_due = True
        if self._look_again is None:
            self._look_again = loop.call_later(LOOK_AGAIN_SECONDS, self._tick)

    def _tick(self) -> None:
        self._look_again = None
        now = self._clock()
        late = [t for t in self._queue.order() if now - t.item.since >= t.item.ask.wait_seconds]
        for ticket in late:
            self._fail(ticket, self._too_late(ticket.item, now))
        self._observe_depth()
        self._wake()

    def _pump(self) -> None:
        """Serves all who can be served."""
        self._pump_due = False
        now = self._clock()
        passed: set[WaiterTicket] = set()
        while self._serve_next(passed, now):
            pass
        self._observe_depth()

    def _serve_next(self, passed: set[WaiterTicket], now: float) -> bool:
        """The first one for whom there is room; `passed` are those for whom there is none. Room
        only becomes less here, so they are not asked again."""
        for ticket in self._queue.candidates():
            if ticket in passed:
                continue
            waiter = ticket.item
            try:
                option = None if waiter.given.done() else self._choose(waiter, now)
            except Exception as error:  # noqa: BLE001 - its own, not of all that wait with it
                self._fail(ticket, error)
                return True
            if option is None:
                passed.add(ticket)
                continue
            self._queue.serve(ticket)
            self._claims.drop(waiter)
            self._overtaken(passed)
            self._metrics.waited(ticket.priority, now - waiter.since)
            waiter.given.set_result(self._give(option))
            return True
        return False

    def _choose(self, waiter: Waiter, now: float) -> Option | None:
        if now - waiter.ranked_at >= RANKED_SECONDS:
            waiter.options = self._options(waiter.ask, waiter.but, now)
            waiter.ranked_at = now
        claims = self._claims.beside(waiter) if self._claims.of else NO_CLAIMS
        return choose(waiter.options, now, waited_seconds=now - waiter.since, claims=claims)

    def _overtaken(self, tickets: Iterable[WaiterTicket]) -> None:
        for ticket in tickets:
            ticket.overtaken += 1
            if ticket.overtaken >= OVERTAKEN_MOST:
                self._claims.make(ticket.item, len(self._pool.endpoints))

    def _options(self, ask: Ask, but: Collection[Endpoint], now: float) -> list[Option]:
        could = eligible(ask, self._pool.endpoints, but, now)
        if not could:
            return []
        return options(
            ask,
            self._ranking.rank(ask, could, now),
            output_share=self._settings.held_output_share,
            long_tokens=self._settings.long_prefill_tokens,
        )

    # -- turns

    def _give(self, option: Option) -> Turn:
        self._open += 1
        turn = Turn(option, self._clock, self._turn_changed)
        self._metrics.placed(option.reason)
        load = option.endpoint.load
        if option.demand.cold_tokens > load.rules.long_prefill_tokens:
            self._metrics.long_prefill()
        self._observe_load(option.endpoint)
        return turn

    def _turn_changed(self, turn: Turn) -> None:
        if not turn.is_open:
            self._open -= 1
            self._pool.released(turn.endpoint)
        self._observe_load(turn.endpoint)
        if turn.is_trial:
            self._pool_changed()  # it may be asked again, by anyone
        else:
            self._wake()

    def begin_retry(self) -> None:
        self._retries += 1

    def end_retry(self) -> None:
        self._retries -= 1

    # -- refusals

    def _refuse_unsupported(self, fields: Json) -> None:
        """Not where waiting helps: a worker that is away may be the one that can do it."""
        if not self._pool.ready:
            return
        lacking = [unsupported(endpoint.dialect, fields) for endpoint in self._pool.endpoints]
        if lacking[0] is not None and None not in lacking:
            raise unsupported_parameter(lacking[0])

    def _too_late(self, waiter: Waiter, now: float) -> Unavailable:
        if not eligible(waiter.ask, self._pool.endpoints, waiter.but, now):
            return no_worker(self._retry_after())
        return queue_timeout(self._retry_after())

    def _retry_after(self) -> float:
        """The fuller the queue, the later."""
        most = MAX_RETRY_AFTER_SECONDS - RETRY_AFTER_SECONDS
        return RETRY_AFTER_SECONDS + most * min(1.0, self._queue.fullness)

    # -- what can be seen of it

    def _position(self, ticket: WaiterTicket) -> Position:
        now = self._clock()
        if now - self._counted_at >= COUNTED_SECONDS or ticket.number not in self._places:
            self._counted_at = now
            self._places = self._queue.places(lambda waiter: waiter.work)
        place, work_before = self._places.get(ticket.number, LAST_PLACE)
        return Position(place, seconds_left(ticket.item, work_before, now))

    def _observe_depth(self) -> None:
        for priority in Priority:
            self._metrics.queue_depth(priority, self._queue.waiting(priority))

    def _observe_load(self, endpoint: Endpoint) -> None:
        self._metrics.worker_load(endpoint.name, endpoint.in_flight, endpoint.load.prefill_tokens)


class Entrance:
    """`async with entrance as turn`. Its `waiting` tells, before and in it, how it stands."""

    __slots__ = ("_ask", "_but", "_dispatcher", "_retry", "_turn", "waiting")

    def __init__(
        self, dispatcher: Dispatcher, ask: Ask, but: Collection[Endpoint], *, retry: bool
    ) -> None:
        self._dispatcher = dispatcher
        self._ask = ask
        self._but = tuple(but)  # as it is now
        self._retry = retry
        self._turn: Turn | None = None
        self.waiting = Waiting(ask.prompt_tokens)

    async def __aenter__(self) -> Turn:
        if self._retry:
            self._dispatcher.begin_retry()
        try:
            turn = await self._dispatcher.enter(self._ask, self._but, self.waiting)
        except BaseException:  # cancellation too
            self._end()
            raise
        self._turn = self.waiting.turn = turn
        return turn

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._turn is not None:
            self._turn.close()
        self._end()

    def _end(self) -> None:
        if self._retry:
            self._dispatcher.end_retry()


def _future() -> asyncio.Future[Turn]:
    return asyncio.get_running_loop().create_future()


def _has_turn(given: asyncio.Future[Turn]) -> bool:
    return given.done() and not given.cancelled() and given.exception() is None
