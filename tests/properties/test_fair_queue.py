"""The laws of the queue: nothing is lost or served twice, a tenant's own order is kept, tenants get
alike, nobody starves, and no flood keeps another out."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.store.policy import Priority
from app.upstream.fair_queue import (
    INTERACTIVE_TURNS,
    LAG_PROMPTS,
    REQUEST_TOKENS,
    SCANNED,
    FairQueue,
    QueueFull,
    Ticket,
)

TENANTS = ("acme", "bolt", "cord")
LONG_TOKENS, LONGEST_TOKENS = 1_000, 50_000
INTERACTIVE, BATCH = Priority.INTERACTIVE, Priority.BATCH

tenants = st.sampled_from(TENANTS)
priorities = st.sampled_from(list(Priority))
tokens = st.integers(0, LONGEST_TOKENS)


def queue_of(limit: int) -> FairQueue[int]:
    return FairQueue(limit, long_tokens=LONG_TOKENS, longest_tokens=LONGEST_TOKENS)


def push(
    queue: FairQueue[int],
    tenant: str = "acme",
    *,
    priority: Priority = INTERACTIVE,
    cold: int = 500,
) -> Ticket[int]:
    ticket, lost = queue.push(
        0, tenant=tenant, priority=priority, long=cold > LONG_TOKENS, cold_tokens=cold
    )
    assert lost is None
    return ticket


def first(queue: FairQueue[int]) -> Ticket[int]:
    return next(queue.candidates())


def serve_first(queue: FairQueue[int]) -> Ticket[int]:
    ticket = first(queue)
    queue.serve(ticket)
    return ticket


class Queueing(RuleBasedStateMachine):
    """Served in any order, as there may be room for anyone."""

    limit = 12

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue_of(self.limit)
        self.waiting: list[Ticket[int]] = []

    @rule(tenant=tenants, priority=priorities, cold=tokens)
    def comes(self, tenant: str, priority: Priority, cold: int) -> None:
        full = len(self.waiting) == self.limit
        try:
            ticket, lost = self.queue.push(
                0, tenant=tenant, priority=priority, long=cold > LONG_TOKENS, cold_tokens=cold
            )
        except QueueFull:
            assert full
            return
        assert (lost is not None) is full
        if lost is not None:
            assert not lost.waiting
            self.waiting.remove(lost)
        self.waiting.append(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def is_served(self, data: st.DataObject) -> None:
        candidates = list(self.queue.candidates())
        ticket = data.draw(st.sampled_from(candidates))
        self.queue.serve(ticket)
        self.waiting.remove(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.queue.leave(ticket)
        self.queue.leave(ticket)
        self.waiting.remove(ticket)

    @invariant()
    def who_waits_is_there_once(self) -> None:
        for order in (self.queue.order(), self.queue.candidates()):
            assert sorted(t.number for t in order) == sorted(t.number for t in self.waiting)
        assert len(self.queue) == len(self.waiting)
        for priority in Priority:
            count = sum(ticket.priority is priority for ticket in self.waiting)
            assert self.queue.waiting(priority) == count
        places = self.queue.places(lambda _: 1)
        assert places.keys() == {ticket.number for ticket in self.waiting}
        assert all(place.work_before == place.place - 1 for place in places.values())

    @invariant()
    def a_tenants_own_order_is_kept(self) -> None:
        latest: dict[tuple[str, Priority, bool], int] = {}
        for ticket in self.queue.candidates():
            line = (ticket.tenant, ticket.priority, ticket.long)
            assert latest.get(line, 0) < ticket.number
            latest[line] = ticket.number


TestQueueing = Queueing.TestCase


@given(st.data())
def test_tenants_that_always_wait_are_given_alike(data: st.DataObject) -> None:
    queue = queue_of(1_000)
    most = 5_000
    cold = st.integers(LONG_TOKENS + 1, most)
    for tenant in TENANTS:
        push(queue, tenant, cold=data.draw(cold))
    given_tokens: Counter[str] = Counter(dict.fromkeys(TENANTS, 0))
    for _ in range(30):
        ticket = serve_first(queue)
        given_tokens[ticket.tenant] += ticket.cost_tokens
        push(queue, ticket.tenant, cold=data.draw(cold))
        assert max(given_tokens.values()) - min(given_tokens.values()) <= most + 1_000


@given(flood=st.lists(st.integers(0, LONG_TOKENS), min_size=1, max_size=100), cold=tokens)
def test_a_tenant_that_comes_into_a_flood_of_another_is_next_but_one(
    flood: list[int], cold: int
) -> None:
    queue = queue_of(1_000)
    for size in flood:
        push(queue, "flood", cold=size)
    for _ in range(len(flood) // 2):
        serve_first(queue)
    own = push(queue, "own", cold=cold % LONG_TOKENS)
    turns = 0
    while own.waiting:
        serve_first(queue)
        push(queue, "flood", cold=0)
        turns += 1
    assert turns <= 2


@given(st.integers(1, 60), st.integers(1, 60))
def test_batch_gets_every_eighth_turn_and_no_more(interactive: int, batch: int) -> None:
    queue = queue_of(1_000)
    for _ in range(interactive):
        push(queue, priority=INTERACTIVE)
    for _ in range(batch):
        push(queue, priority=BATCH)
    since = 0
    while queue.waiting(INTERACTIVE) and queue.waiting(BATCH):
        if serve_first(queue).priority is BATCH:
            assert since == INTERACTIVE_TURNS
            since = 0
        else:
            since += 1
            assert since <= INTERACTIVE_TURNS


def test_short_prompts_are_not_behind_long_ones_that_find_no_room() -> None:
    queue = queue_of(1_000)
    for _ in range(SCANNED * 2):
        push(queue, "acme", cold=LONGEST_TOKENS)
    short = push(queue, "acme", cold=10)
    assert short in list(queue.candidates())


def test_a_tenant_whose_requests_found_no_room_does_not_take_over_its_line() -> None:
    queue = queue_of(10_000)
    for _ in range(200):
        push(queue, "stuck", cold=0)
    for _ in range(1_000):  # the others go on for long
        other = push(queue, "other", cold=LONG_TOKENS)
        queue.serve(other)
        push(queue, "other", cold=LONG_TOKENS)
    served: Counter[str] = Counter()
    for _ in range(30):
        ticket = serve_first(queue)
        served[ticket.tenant] += ticket.cost_tokens
        prompt = LONG_TOKENS + REQUEST_TOKENS
        # One that the other has just been given, and one that is given now.
        assert served["stuck"] - served["other"] <= (LAG_PROMPTS + 2) * prompt
    assert served["other"]


class TestAFullQueue:
    def full_of(self, *kinds: tuple[str, Priority, int]) -> FairQueue[int]:
        queue = queue_of(sum(count for _, _, count in kinds))
        for tenant, priority, count in kinds:
            for _ in range(count):
                push(queue, tenant, priority=priority)
        return queue

    def pushed(self, queue: FairQueue[int], tenant: str, priority: Priority) -> Ticket[int] | None:
        return queue.push(0, tenant=tenant, priority=priority, long=False, cold_tokens=1)[1]

    def test_the_newest_of_a_flood_makes_room_for_another_tenant(self) -> None:
        queue = self.full_of(("flood", INTERACTIVE, 15), ("own", INTERACTIVE, 1))
        newest = [t.number for t in queue.order() if t.tenant == "flood"][-1]
        lost = self.pushed(queue, "own", INTERACTIVE)
        assert lost is not None
        assert (lost.tenant, lost.number) == ("flood", newest)

    def test_a_flood_makes_no_room_for_itself(self) -> None:
        queue = self.full_of(("flood", INTERACTIVE, 15), ("own", INTERACTIVE, 1))
        with pytest.raises(QueueFull):
            self.pushed(queue, "flood", INTERACTIVE)

    def test_nobody_is_turned_out_for_an_equal(self) -> None:
        queue = self.full_of(("acme", INTERACTIVE, 8), ("bolt", INTERACTIVE, 8))
        with pytest.raises(QueueFull):
            self.pushed(queue, "acme", INTERACTIVE)

    def test_a_flood_of_batch_makes_room_for_who_does_not_want_to_wait(self) -> None:
        queue = self.full_of(("flood", BATCH, 16))
        lost = self.pushed(queue, "flood", INTERACTIVE)
        assert lost is not None
        assert lost.priority is BATCH

    def test_batch_has_an_eighth_of_the_queue_in_a_flood_of_interactive_ones(self) -> None:
        queue = self.full_of(("flood", INTERACTIVE, 16))
        for _ in range(2):
            lost = self.pushed(queue, "own", BATCH)
            assert lost is not None
            assert lost.priority is INTERACTIVE
        with pytest.raises(QueueFull):
            self.pushed(queue, "own", BATCH)
