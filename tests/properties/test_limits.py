"""The laws of the limits, under any order of admissions, ends, outages of replicas, recounts and
steps of the clock. In this process and in both servers they answer as the model does: so they
answer alike."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from app.limits import local
from app.limits.enforcer import Enforcer
from app.limits.local import LocalLimits
from app.limits.shared import SharedLimits
from app.limits.subjects import Decision, Demand, Spending, Subject, SubjectKind
from app.store.policy import Limits
from tests.properties.limits_model import DAY, SECOND, WINDOW, Model, month_of
from tests.support.redis_moments import Moment, running_lane

T = TypeVar("T")

TICK = SECOND // 8  # exact in binary, so that all clocks agree to the last bit
LEASE_SECONDS, RECOUNT_SECONDS = 30, 60
# What is dead for longer is forgotten.
DEAD_SECONDS = 600
START = 1_835_305_200 * SECOND  # 2028-02-27 23:00: a day ends soon, and a leap month
PREFIX = "laws:"

KEYS = (
    Subject(
        SubjectKind.KEY,
        "key_a",
        "acme",
        Limits(
            requests_per_minute=7,
            tokens_per_minute=1000,
            concurrency=3,
            tokens_per_day=2000,
            tokens_per_month=3000,
        ),
    ),
    Subject(SubjectKind.KEY, "key_b", "acme", Limits(tokens_per_minute=700, concurrency=4)),
)
TENANT = Subject(
    SubjectKind.TENANT,
    "acme",
    "acme",
    Limits(requests_per_minute=11, tokens_per_minute=1300, concurrency=5, tokens_per_day=3500),
)
SUBJECTS = (*KEYS, TENANT)

costs = st.sampled_from([0, 1, 7, 100, 300, 500, 700, 1000, 1001, 2100])


class LimitsMachine(RuleBasedStateMachine):
    """`url` is of a Redis, or None for limits in this process."""

    def __init__(self, url: str | None) -> None:
        super().__init__()
        self.url = url
        self.moment = Moment(START)
        self.model = Model(lambda: self.moment.us, LEASE_SECONDS * SECOND, RECOUNT_SECONDS * SECOND)
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.limits = self.runner.run(self.start())
        self.open: dict[str, Demand] = {}  # in the order of their admission
        self.settled: list[tuple[Demand, Spending]] = []
        self.recounts: list[tuple[Subject, float]] = []
        self.log: list[tuple[int, Demand, int]] = []  # settled at, and charged
        self.number = 0
        self.forward_us = 0
        self.stepped_back = False
        self.taken: dict[Subject, int] = defaultdict(int)  # tokens, less what came back
        self.owed: dict[Subject, int] = defaultdict(int)

    async def start(self) -> Enforcer:
        if self.url is None:
            return LocalLimits(
                self.moment, lease_seconds=LEASE_SECONDS, recount_seconds=RECOUNT_SECONDS
            )
        self.redis = self.stack.enter_context(Redis.from_url(self.url, decode_responses=True))
        self.redis.flushdb()
        lane = await self.stack.enter_async_context(running_lane(self.url, moment=self.moment))
        return SharedLimits(
            lane, prefix=PREFIX, lease_seconds=LEASE_SECONDS, recount_seconds=RECOUNT_SECONDS
        )

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()

    def ask(self, question: Awaitable[T]) -> T:
        """No two scripts run in the same microsecond."""

        async def asked() -> T:
            return await question

        self.moment.us += TICK
        self.forward_us += TICK
        return self.runner.run(asked())

    # -- requests

    @initialize()
    def count_budgets(self) -> None:
        for subject in SUBJECTS:
            if subject.budgeted:
                self.count(subject)

    def admit(self, demand: Demand) -> Decision | None:
        answer = self.ask(self.limits.admit(demand))
        self.model.check_admit(demand, answer)
        return answer if isinstance(answer, Decision) else None

    @rule(key=st.sampled_from(KEYS), tokens=costs, requests=st.sampled_from([1, 1, 1, 0]))
    def begin(self, key: Subject, tokens: int, requests: int) -> None:
        self.number += 1
        demand = Demand(f"req_{self.number}", (key, TENANT), tokens, requests)
        decision = self.admit(demand)
        if decision is None or decision.refusal is not None:
            return
        self.open[demand.request_id] = demand
        for subject in demand.subjects:
            self.taken[subject] += tokens
            self.check_budget(subject, tokens)

    def check_budget(self, subject: Subject, tokens: int) -> None:
        account, limits = self.model.account(subject), subject.limits
        if not tokens or account.budget is None:
            return
        used = account.budget.unsure + account.held
        assert account.budget.day_tokens + used <= (limits.tokens_per_day or math.inf)
        assert account.budget.month_tokens + used <= (limits.tokens_per_month or math.inf)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def begin_again(self, data: st.DataObject) -> None:
        """It may have been answered, and nobody heard it."""
        demand = data.draw(st.sampled_from(list(self.open.values())))
        held = {s: demand.request_id in self.model.account(s).leases for s in demand.subjects}
        decision = self.admit(demand)
        if decision is not None and decision.refusal is None and not any(held.values()):
            for subject in demand.subjects:  # its lease had run out: it is another one
                self.taken[subject] += demand.tokens

    @rule(key=st.sampled_from(KEYS), requests=st.integers(0, 1))
    def count_only(self, key: Subject, requests: int) -> None:
        self.number += 1
        self.admit(Demand(f"req_{self.number}", (key, TENANT), 0, requests, reserving=False))

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        used=st.sampled_from([0, 1, 50, 299, 1000, 1500]),
        unsure=st.sampled_from([0, 0, 0, 40]),
        late=st.sampled_from([False, False, False, True]),
    )
    def settle(self, data: st.DataObject, used: int, unsure: int, late: bool) -> None:
        demand = self.open.pop(data.draw(st.sampled_from(list(self.open))))
        self.end(demand, Spending(used, unsure, late))

    def end(self, demand: Demand, spending: Spending) -> None:
        used = spending.certain_tokens + spending.unsure_tokens
        if spending.late:
            self.log.append((self.moment.us, demand, used))
        for subject in demand.subjects:
            lease = self.model.account(subject).leases.get(demand.request_id)
            if lease is not None and lease.charged:
                self.taken[subject] += used - lease.tokens
                self.owed[subject] += max(0, used - lease.tokens)
        answer = self.ask(self.limits.settle(demand, spending))
        self.model.check_settle(demand, spending, answer)
        if not spending.late:
            self.log.append((self.moment.us, demand, used))
        self.settled.append((demand, spending))

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        demand, spending = data.draw(st.sampled_from(self.settled))
        if demand.request_id in self.open:
            return
        answer = self.ask(self.limits.settle(demand, spending))
        self.model.check_settle(demand, spending, answer)
        assert answer.due == demand.subjects

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Its replica is gone. What it used stands in the audit log some day."""
        demand = self.open.pop(data.draw(st.sampled_from(list(self.open))))
        self.log.append((self.moment.us, demand, demand.tokens // 2))

    @rule()
    def renew(self) -> None:
        for subject in SUBJECTS:
            holds = {i: d.tokens for i, d in self.open.items() if subject in d.subjects}
            if holds:
                self.ask(self.limits.renew(subject, holds))
                self.model.renew(subject, holds)

    # -- budgets

    @precondition(lambda self: len(self.recounts) < 3)
    @rule(subject=st.sampled_from((KEYS[0], TENANT)), patient=st.booleans())
    def begin_recount(self, subject: Subject, patient: bool) -> None:
        began = self.ask(self.limits.begin_recount(subject, patient=patient))
        self.model.check_begin(subject, patient, began)
        if began is not None:
            self.recounts.append((subject, began))

    @precondition(lambda self: self.recounts)
    @rule(data=st.data(), abandoned=st.sampled_from([False, False, True]))
    def end_recount(self, data: st.DataObject, abandoned: bool) -> None:
        one = data.draw(st.sampled_from(self.recounts))
        self.recounts.remove(one)
        if abandoned:
            self.ask(self.limits.abandon_recount(*one))
            self.model.abandon(*one)
        else:
            self.finish_recount(*one)

    @rule(subject=st.sampled_from((KEYS[0], TENANT)))
    def count(self, subject: Subject) -> None:
        began = self.ask(self.limits.begin_recount(subject))
        self.model.check_begin(subject, False, began)
        if began is not None:
            self.finish_recount(subject, began)

    def finish_recount(self, subject: Subject, began: float) -> None:
        until = round(began * SECOND)
        day = self.logged(subject, until, lambda at: at // DAY == until // DAY)
        month = self.logged(subject, until, lambda at: month_of(at) == month_of(until))
        finished = self.ask(self.limits.finish_recount(subject, began, day, month))
        self.model.check_finish(subject, began, day, month, finished)
        if not finished or self.stepped_back:
            return
        budget, now = self.model.account(subject).budget, self.moment.us
        assert budget is not None
        # All that was logged before it began, and nothing that is not logged by now.
        whole = self.logged(subject, now, lambda at: at // DAY == now // DAY)
        assert day <= budget.day_tokens <= whole

    def logged(self, subject: Subject, until: int, within: Any) -> int:
        return sum(
            charged
            for at, demand, charged in self.log
            if subject in demand.subjects and at <= until and within(at)
        )

    # -- time

    @rule(eighths=st.integers(1, 8 * 40))
    def step(self, eighths: int) -> None:
        self.forward(eighths * TICK)

    @rule(seconds=st.sampled_from([29, 60, 90, 3600]))
    def step_far(self, seconds: int) -> None:
        self.forward(seconds * SECOND)

    @rule(hours=st.integers(3, 50))
    def step_days(self, hours: int) -> None:
        self.forward(hours * 3600 * SECOND)

    def forward(self, us: int) -> None:
        self.moment.us += us
        self.forward_us += us
        dead = self.moment.us - DEAD_SECONDS * SECOND
        for request_id, demand in list(self.open.items()):
            leases = [self.model.account(s).leases.get(request_id) for s in demand.subjects]
            if any(lease is not None and lease.ends_at < dead for lease in leases):
                del self.open[request_id]  # nobody held a request for so long without a renewal

    @precondition(lambda self: self.url is not None)
    @rule(seconds=st.sampled_from([1, 45, 3600, 6 * 3600]))
    def step_back(self, seconds: int) -> None:
        """Of Redis, or of the one that took over from it."""
        self.moment.us -= seconds * SECOND
        self.stepped_back = True

    @precondition(lambda self: self.url is not None)
    @rule()
    def lose_everything(self) -> None:
        self.redis.flushdb()
        self.model.accounts.clear()
        self.taken.clear()
        self.owed.clear()

    # -- laws

    @invariant()
    def no_more_is_taken_than_time_has_brought(self) -> None:
        for subject, taken in self.taken.items():
            limit = subject.limits.tokens_per_minute
            assert limit is not None
            assert taken <= limit + self.forward_us * limit / WINDOW + self.owed[subject] + 1e-4

    @invariant()
    def what_is_held_is_the_sum_of_what_is_open(self) -> None:
        for subject, account in list(self.model.accounts.items()):
            if isinstance(self.limits, LocalLimits) and subject not in self.limits._states:
                # Forgotten, as it may be once all of its leases are long dead.
                dead = self.moment.us - DEAD_SECONDS * SECOND
                assert all(lease.ends_at < dead for lease in account.leases.values())
                assert not subject.budgeted
                del self.model.accounts[subject]
                continue
            held, leases = self.holdings(subject)
            assert held == account.held
            assert leases == {i: lease.ends_at for i, lease in account.leases.items()}

    def holdings(self, subject: Subject) -> tuple[int, dict[str, int]]:
        if isinstance(self.limits, LocalLimits):
            state = self.limits._states[subject]
            leases = {i: round(lease.ends_at * SECOND) for i, lease in state.leases.items()}
            assert state.held_tokens == sum(lease.tokens for lease in state.leases.values())
            return state.held_tokens, leases
        name = f"{PREFIX}{{acme}}:{subject.kind}"
        if subject.kind is SubjectKind.KEY:
            name += f":{subject.id}"
        fields = self.redis.hgetall(name)
        held = {i: int(tokens) for i, tokens in fields.items() if i.startswith("req_")}
        leases = self.redis.zrange(f"{name}:leases", 0, -1, withscores=True)
        assert {i for i, _ in leases} == held.keys()
        assert int(fields.get("h", 0)) == sum(map(abs, held.values()))
        return int(fields.get("h", 0)), {i: int(ends_at) for i, ends_at in leases}

    def drain(self) -> None:
        """However it went: once all is settled, or has run out, nothing is held."""
        for demand in list(self.open.values()):
            self.end(demand, Spending(0))
        self.open.clear()
        for _ in range(2):  # the first shows whether the clock has stepped back
            for key in KEYS:
                self.admit(Demand("req_last", (key, TENANT), 0, 0, reserving=False))
            self.forward(LEASE_SECONDS * SECOND)
        for key in KEYS:
            self.admit(Demand("req_last", (key, TENANT), 0, 0, reserving=False))
        for subject in self.model.accounts:
            assert self.holdings(subject) == (0, {})


LAWS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def budgets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a process forgets them has tests of its own."""
    monkeypatch.setattr(local, "BUDGET_KEPT_SECONDS", math.inf)


def test_the_laws_hold_in_this_process() -> None:
    run_state_machine_as_test(lambda: LimitsMachine(None), settings=LAWS)


def test_the_laws_hold_in_redis(redis_url: str) -> None:
    run_state_machine_as_test(lambda: LimitsMachine(redis_url), settings=LAWS)
