"""The laws of a pool that changes under traffic, for any order of workers that are added, drained,
removed, asked in another way, named by several sources and no longer, and of requests that come and
end: no request is ever taken from its worker, a worker that drains gets nothing new, what nobody
names is gone with its last request and is told of once, and what somebody names is there."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.errors import Conflict, NotFound, Unavailable
from app.settings.pool import PoolSettings
from app.settings.worker import WorkerSettings
from app.upstream.dispatcher import Dispatcher
from app.upstream.endpoint import Endpoint
from app.upstream.least_loaded import LeastLoaded
from app.upstream.membership.changes import SHOWN_SECONDS, STANDING, Membership, Source
from app.upstream.pool import Pool
from app.upstream.turn import Turn
from tests.support.fake_time import FakeTimeLoop
from tests.support.workers_asked import ask, pool_metrics

NAMES = ("w0:8000", "w1:8000", "w2:8000")

names = st.sampled_from(NAMES)
# In place, or as another worker of the same name.
ways = st.sampled_from(
    ({}, {"api_key": "k"}, {"tags": ["short"]}, {"engine": "sglang"}, {"max_concurrency": 1})
)


@dataclass(eq=False)
class Request:
    task: asyncio.Task[None] | None = None
    turn: Turn | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    failed: bool = False

    async def run(self, dispatcher: Dispatcher) -> None:
        try:
            async with dispatcher.turn(ask(100)) as turn:
                assert not turn.endpoint.draining, "something new for a worker that drains"
                self.turn = turn
                await self.over.wait()
        except Unavailable:
            self.failed = True

    @property
    def runs(self) -> bool:
        return self.turn is not None and not self.over.is_set()


class Changing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = FakeTimeLoop()
        self.pool = Pool(())
        self.gone: Counter[Endpoint] = Counter()
        self.forgotten: list[str] = []
        self.membership = Membership(
            self.pool, pool_metrics(), [lambda endpoint: self.forgotten.append(endpoint.name)]
        )
        told = self.pool.on_removed
        self.pool.on_removed = lambda endpoint: (self.gone.update([endpoint]), told(endpoint))[1]
        self.dispatcher = Dispatcher(
            self.pool, LeastLoaded(), PoolSettings(), pool_metrics(), clock=self.loop.time
        )
        self.requests: list[Request] = []
        self.seen: set[Endpoint] = set()
        self.named: dict[Source, set[str]] = {source: set() for source in Source}
        self.held: set[str] = set()

    def teardown(self) -> None:
        try:
            for request in self.requests:
                request.over.set()
            self.loop.settle()
            assert {each.name for each in self.pool.endpoints} == self.expected
            assert not any(member.leaving for member in self.membership)
            self.loop.pass_time(SHOWN_SECONDS)
        finally:
            for request in self.requests:
                if request.task is not None:
                    request.task.cancel()
            self.loop.settle()
            self.loop.close()

    @property
    def expected(self) -> set[str]:
        return set().union(*self.named.values())

    def do(self, change: Callable[[], object]) -> None:
        async def in_the_loop() -> None:
            change()

        self.loop.run_until_complete(in_the_loop())

    def settle(self) -> None:
        """New workers are found ready."""
        for endpoint in self.pool.endpoints:
            endpoint.ready = True
            self.seen.add(endpoint)
        self.held &= self.expected
        self.loop.settle(self.pool.changed)

    # -- what happens

    @rule(source=st.sampled_from((Source.SETTINGS, *STANDING)), listed=st.dictionaries(names, ways))
    def names_workers(self, source: Source, listed: dict[str, dict[str, object]]) -> None:
        workers = [worker(name, way) for name, way in listed.items()]
        self.do(lambda: self.membership.want(source, workers))
        self.named[source] = set(listed)
        self.settle()

    @rule(name=names, way=ways)
    def is_added(self, name: str, way: dict[str, object]) -> None:
        try:
            self.do(lambda: self.membership.add(worker(name, way)))
        except Conflict:
            assert name in self.expected
        else:
            assert name not in self.expected
            self.named[Source.ADMIN].add(name)
        self.settle()

    @rule(name=names)
    def is_removed(self, name: str) -> None:
        try:
            self.do(lambda: self.membership.remove(name))
        except NotFound:
            assert name not in self.expected
        except Conflict:
            assert any(name in self.named[source] for source in STANDING)
        else:
            for source in (Source.SETTINGS, Source.ADMIN):
                self.named[source].discard(name)
        self.settle()

    @rule(name=names, drained=st.booleans())
    def is_drained_or_resumed(self, name: str, drained: bool) -> None:
        change = self.membership.drain if drained else self.membership.resume
        try:
            self.do(lambda: change(name))
        except NotFound:
            assert name not in self.expected
        else:
            (self.held.add if drained else self.held.discard)(name)
        self.settle()

    @rule()
    def comes(self) -> None:
        request = Request()
        request.task = self.loop.create_task(request.run(self.dispatcher))
        self.requests.append(request)
        self.loop.settle()

    @precondition(lambda self: any(request.runs for request in self.requests))
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([r for r in self.requests if r.runs])).over.set()
        self.loop.settle()

    @rule(seconds=st.floats(0, 2 * SHOWN_SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        self.loop.settle()

    # -- what always holds

    @invariant()
    def no_request_is_taken_from_its_worker(self) -> None:
        for request in self.requests:
            if request.runs:
                assert request.task is not None
                assert request.turn is not None
                assert not request.task.done()
                assert request.turn.is_open
                assert request.turn.endpoint in self.pool.endpoints

    @invariant()
    def whoever_is_named_is_there_once(self) -> None:
        staying = [member.name for member in self.membership if not member.leaving]
        assert sorted(staying) == sorted(self.expected)
        assert {member.endpoint for member in self.membership} == set(self.pool.endpoints)

    @invariant()
    def whoever_is_not_named_drains_and_is_gone_with_its_last_request(self) -> None:
        for member in self.membership:
            held = not member.leaving and member.name in self.held
            assert member.held == held
            assert member.endpoint.draining == (member.leaving or held)
            assert member.endpoint.in_flight or not member.leaving

    @invariant()
    def each_removal_is_told_of_once(self) -> None:
        assert self.seen - set(self.pool.endpoints) == set(self.gone)
        assert all(times == 1 for times in self.gone.values())

    @invariant()
    def nobody_fails_while_a_worker_takes_requests(self) -> None:
        waiting = [r for r in self.requests if not r.failed and r.turn is None]
        if any(endpoint.takes_requests(self.loop.time()) for endpoint in self.pool.endpoints):
            for request in waiting:  # only a worker with one place lets them wait
                assert all(
                    e.draining or e.settings.max_concurrency is not None
                    for e in self.pool.endpoints
                ), request


def worker(name: str, way: dict[str, object]) -> WorkerSettings:
    return WorkerSettings.model_validate({"url": f"http://{name}"} | way)


Changing.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestChanging = Changing.TestCase
