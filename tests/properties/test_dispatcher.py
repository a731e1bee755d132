"""The laws of the dispatcher, under any order of requests that come, begin, end and leave, and of
workers that are restarted, drained, lost and found: what a worker is given keeps to the rules, each
reservation is freed exactly once, a restarted worker starts clean, room is not left unused, and
everybody gets an end."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.errors import Unavailable
from app.settings.pool import PoolSettings
from app.store.policy import Priority
from app.upstream.ask import Ask
from app.upstream.dispatcher import LOOK_AGAIN_SECONDS, RANKED_SECONDS, Dispatcher
from app.upstream.endpoint import Endpoint
from app.upstream.least_loaded import LeastLoaded
from app.upstream.load import Report
from app.upstream.placement import choose, eligible, options
from app.upstream.turn import Turn
from tests.support.fake_time import FakeTimeLoop
from tests.support.workers_asked import ask, pool_metrics, pool_of

RULES = PoolSettings(
    worker_prefill_tokens=1_100,
    long_prefill_tokens=100,
    queue_requests=8,
    queue_seconds=30,
    held_output_share=0.5,
)
CAPACITY = 1_500
WAIT_SECONDS = 30.0
CONTEXTS = (400, 1_000, 1_000)
CONCURRENCY = 4

prompts = st.one_of(st.integers(1, 100), st.integers(1, 1_000))


@dataclass(eq=False)
class Request:
    """One that comes, waits, and holds what it is given until it is told to end."""

    ask: Ask
    task: asyncio.Task[None] | None = None
    turn: Turn | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    failed: str | None = None

    async def run(self, dispatcher: Dispatcher) -> None:
        try:
            async with dispatcher.turn(self.ask) as turn:
                self.turn = turn
                await self.over.wait()
        except Unavailable as error:
            self.failed = error.code

    @property
    def waits(self) -> bool:
        return self.turn is None and self.failed is None

    @property
    def runs(self) -> bool:
        return self.turn is not None and self.turn.is_open


class Dispatching(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = FakeTimeLoop()
        workers = [{"max_model_len": CONTEXTS[0]}, {"max_concurrency": CONCURRENCY}, {}]
        self.pool = pool_of(*workers, settings=RULES)
        for endpoint, context in zip(self.pool.endpoints, CONTEXTS, strict=True):
            endpoint.learned("m", context)
            self.say_capacity(endpoint)
        self.dispatcher = Dispatcher(
            self.pool, LeastLoaded(), RULES, pool_metrics(), clock=self.loop.time
        )
        self.requests: list[Request] = []

    def say_capacity(self, endpoint: Endpoint) -> None:
        endpoint.load.report(Report(self.loop.time(), CAPACITY))

    def teardown(self) -> None:
        try:
            self.bring_to_an_end()
        finally:
            for request in self.requests:
                if request.task is not None:
                    request.task.cancel()
            self.loop.settle()
            self.loop.close()

    def bring_to_an_end(self) -> None:
        """Once all workers are well and requests end, nobody is left and nothing is held."""
        for endpoint in self.pool.endpoints:
            endpoint.ready, endpoint.draining, endpoint.ejected_until = True, False, None
        self.loop.settle(self.pool.changed)
        while any(request.waits or request.runs for request in self.requests):
            running = [request for request in self.requests if request.runs]
            assert running, "requests wait although nothing runs"
            for request in running:
                request.over.set()
            self.loop.settle()
        for endpoint in self.pool.endpoints:
            load = endpoint.load
            assert (load.streams, load.prefill_tokens, load.held_tokens) == (0, 0, 0)
            assert (load.long_prefills, endpoint.in_flight, endpoint.on_trial) == (0, 0, False)

    # -- what happens

    @rule(
        tenant=st.sampled_from(("acme", "bolt")),
        priority=st.sampled_from(list(Priority)),
        prompt=prompts,
        output=st.integers(0, 400),
    )
    def comes(self, tenant: str, priority: Priority, prompt: int, output: int) -> None:
        request = Request(
            ask(
                prompt,
                tenant=tenant,
                priority=priority,
                output_tokens=output,
                wait_seconds=WAIT_SECONDS,
            )
        )
        request.task = self.loop.create_task(request.run(self.dispatcher))
        self.requests.append(request)
        self.loop.settle()

    @precondition(lambda self: any(r.runs for r in self.requests))
    @rule(data=st.data())
    def begins(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([r for r in self.requests if r.runs]))
        assert request.turn is not None
        self.loop.settle(request.turn.began, request.turn.began)

    @precondition(lambda self: any(r.runs for r in self.requests))
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([r for r in self.requests if r.runs]))
        request.over.set()
        self.loop.settle()
        assert request.turn is not None
        self.loop.settle(request.turn.close)

    @precondition(lambda self: any(r.waits or r.runs for r in self.requests))
    @rule(data=st.data(), settled=st.booleans())
    def leaves(self, data: st.DataObject, settled: bool) -> None:
        """Also in the very round in which it is given a worker."""
        there = [r for r in self.requests if r.waits or r.runs]
        if not settled:
            running = [r for r in there if r.runs]
            if running:
                data.draw(st.sampled_from(running)).over.set()
                self.loop.run_until_complete(asyncio.sleep(0))
        request = data.draw(st.sampled_from(there))
        assert request.task is not None
        request.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # ours, of the line above
            self.loop.run_until_complete(request.task)
        if request.waits:
            request.failed = "left"
        self.loop.settle()

    @rule(data=st.data())
    def is_restarted(self, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(self.pool.endpoints))
        endpoint.renew()
        self.say_capacity(endpoint)
        load = endpoint.load
        assert (load.streams, load.prefill_tokens, load.held_tokens) == (0, 0, 0)
        self.loop.settle(self.pool.changed)

    @rule(index=st.integers(0, 2), ready=st.booleans(), draining=st.booleans())
    def changes(self, index: int, ready: bool, draining: bool) -> None:
        endpoint = self.pool.endpoints[index]
        endpoint.ready, endpoint.draining = ready, draining
        self.loop.settle(self.pool.changed)

    @rule(index=st.integers(0, 2), seconds=st.one_of(st.none(), st.floats(0, 5)))
    def is_ejected(self, index: int, seconds: float | None) -> None:
        until = None if seconds is None else self.loop.time() + seconds
        self.pool.endpoints[index].ejected_until = until
        self.loop.settle(self.pool.changed)

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        self.loop.settle()

    # -- what always holds

    @invariant()
    def nothing_is_counted_twice_or_never(self) -> None:
        for endpoint in self.pool.endpoints:
            there = [r for r in self.requests if r.runs and r.turn and r.turn.endpoint is endpoint]
            assert endpoint.in_flight == len(there)
            turns = [r.turn for r in there if r.turn and r.turn.generation == endpoint.generation]
            demands = [turn.demand for turn in turns]
            reading = [turn.demand.cold_tokens for turn in turns if turn.is_reading]
            load = endpoint.load
            assert load.streams == len(turns)
            assert load.held_tokens == sum(demand.held_tokens for demand in demands)
            assert load.prefill_tokens == sum(reading)
            assert load.long_prefills == sum(t > RULES.long_prefill_tokens for t in reading)

    @invariant()
    def a_worker_is_given_no_more_than_the_rules_say(self) -> None:
        for endpoint in self.pool.endpoints:
            load = endpoint.load
            assert load.held_tokens <= CAPACITY or load.streams == 1
            assert load.prefill_tokens <= RULES.worker_prefill_tokens
            assert load.long_prefills <= RULES.long_prefills_per_worker
            most = endpoint.settings.max_concurrency
            assert most is None or load.streams <= most

    @invariant()
    def what_was_given_fits_the_context(self) -> None:
        for request in self.requests:
            if request.turn is not None:
                assert request.turn.endpoint.context_tokens >= request.ask.needed_tokens

    @invariant()
    def who_waits_is_in_the_queue_and_not_too_long(self) -> None:
        waiting = [request for request in self.requests if request.waits]
        assert len(waiting) == self.dispatcher.waiting <= RULES.queue_requests

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        if self.dispatcher.claimed:
            return
        now = self.loop.time()
        # That the time of an ejection is over is seen when workers are ranked again.
        late = RANKED_SECONDS + LOOK_AGAIN_SECONDS
        seen = [e for e in self.pool.endpoints if not 0 <= now - (e.ejected_until or 0) < late]
        for request in self.requests:
            could = eligible(request.ask, seen, (), now) if request.waits else []
            if could:
                found = options(
                    request.ask,
                    LeastLoaded().rank(request.ask, could, now),
                    output_share=RULES.held_output_share,
                    long_tokens=RULES.long_prefill_tokens,
                )
                assert choose(found, now, waited_seconds=None) is None


Dispatching.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDispatching = Dispatching.TestCase
