"""The laws of the limits, under any order of admissions, ends and pauses.

The model counts units in whole fractions, so it cannot share a rounding error with the code.
"""

from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from app.limits import gcra
from app.limits.local import LimitReached, LocalLimits, Reservation, Scope
from app.store.policy import Policy

SUBJECTS = ("key_a", "key_b")
LIMITS = {Scope.REQUESTS: 9, Scope.TOKENS: 1000}
CONCURRENCY = 4
POLICY = Policy(requests_per_minute=9, tokens_per_minute=1000, concurrency=CONCURRENCY)
WINDOW = Fraction(int(gcra.WINDOW_SECONDS))
ROUNDING_UNITS = Fraction(1, 10_000)

moments = st.integers(0, 10**6).map(lambda eighths: eighths / 8)
buckets = st.integers(1, 10**9)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 120))), st.integers(1, 100))
def test_any_window_admits_at_most_twice_the_limit_and_a_rest_only_once(
    asks: list[tuple[int, int]], limit: int
) -> None:
    """Burst and refill together: limit at once, and limit again while a minute passes."""
    now, full_at, admitted = 0.0, 0.0, []
    for pause, units in asks:
        now += pause / 8
        if gcra.fits(limit, units) and gcra.wait_seconds(full_at, limit, units, now) == 0:
            full_at = gcra.take(full_at, limit, units, now)
            admitted.append((now, units))
    for start, _ in admitted:
        inside = sum(units for at, units in admitted if start <= at < start + 60)
        assert inside <= 2 * limit + 1e-4


@given(buckets, moments, st.data())
def test_what_is_given_back_can_be_taken_again(limit: int, now: float, data: Any) -> None:
    reserved = data.draw(st.integers(1, limit))
    used = data.draw(st.integers(0, reserved))
    full_at = gcra.take(0.0, limit, reserved, now)
    full_at = gcra.give_back(full_at, limit, reserved - used, now)
    assert gcra.wait_seconds(full_at, limit, limit - used, now) == 0


@given(buckets, moments, st.data())
def test_waiting_as_told_is_enough(limit: int, now: float, data: Any) -> None:
    full_at = gcra.take(0.0, limit, data.draw(st.integers(1, 3 * limit)), now)
    units = data.draw(st.integers(1, limit))
    wait = gcra.wait_seconds(full_at, limit, units, now)
    assert gcra.wait_seconds(full_at, limit, units, now + wait) == 0


class Bucket:
    """The model: how many units are out, exactly."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.out = Fraction(0)
        self.charged = Fraction(0)  # since the beginning, true to what was settled

    def pass_time(self, seconds: Fraction) -> None:
        self.out = max(self.out - seconds * self.limit / WINDOW, Fraction(0))

    def room(self, units: int) -> Fraction:
        """Negative where it has to wait."""
        return self.limit - self.out - units

    def charge(self, units: int) -> None:
        self.out = max(self.out + units, Fraction(0))
        self.charged += units


class LimitsMachine(RuleBasedStateMachine):
    open_reservations = Bundle("open_reservations")
    settled = Bundle("settled")

    def __init__(self) -> None:
        super().__init__()
        self.now = Fraction(100)
        self.limits = LocalLimits(lambda: float(self.now))
        self.model = {
            subject: {scope: Bucket(limit) for scope, limit in LIMITS.items()}
            for subject in SUBJECTS
        }
        self.running: dict[str, set[str]] = {subject: set() for subject in SUBJECTS}
        self.debt = dict.fromkeys(SUBJECTS, 0)
        self.requests = 0

    @rule(eighths=st.integers(1, 800))
    def wait(self, eighths: int) -> None:
        self.now += Fraction(eighths, 8)
        for buckets_of_subject in self.model.values():
            for bucket in buckets_of_subject.values():
                bucket.pass_time(Fraction(eighths, 8))

    @rule(target=open_reservations, subject=st.sampled_from(SUBJECTS), cost=st.integers(1, 1100))
    def admit(self, subject: str, cost: int) -> Any:
        self.requests += 1
        request_id = f"req_{self.requests}"
        requests, tokens = self.model[subject].values()
        rooms = {Scope.REQUESTS: requests.room(1), Scope.TOKENS: tokens.room(cost)}
        full = len(self.running[subject]) >= CONCURRENCY
        admitted = self.try_to_admit(subject, request_id, cost)
        if isinstance(admitted, LimitReached):
            room = rooms.get(admitted.scope, Fraction(-1) if full else Fraction(1))
            assert room < ROUNDING_UNITS
            assert (admitted.should_retry is False) == (cost > LIMITS[Scope.TOKENS])
            return multiple()
        assert not full
        assert all(room > -ROUNDING_UNITS for room in rooms.values())
        requests.charge(1)
        tokens.charge(cost)
        self.running[subject].add(request_id)
        return admitted

    @rule(
        target=settled,
        reservation=consumes(open_reservations),
        share=st.fractions(0, Fraction(3, 2), max_denominator=8),
    )
    def settle(self, reservation: Reservation, share: Fraction) -> Reservation:
        used = int(reservation.cost_tokens * share)
        self.limits.settle(reservation, used)
        self.model[reservation.subject][Scope.TOKENS].charge(used - reservation.cost_tokens)
        self.running[reservation.subject].discard(reservation.request_id)
        self.debt[reservation.subject] += max(used - reservation.cost_tokens, 0)
        return reservation

    @rule(reservation=settled, used=st.integers(0, 2000))
    def settle_again(self, reservation: Reservation, used: int) -> None:
        self.limits.settle(reservation, used)

    @rule(reservation=open_reservations)
    def ask_again(self, reservation: Reservation) -> None:
        again = self.limits.admit(
            reservation.subject, reservation.request_id, POLICY, reservation.cost_tokens
        )
        assert again is reservation

    def try_to_admit(self, subject: str, request_id: str, cost: int) -> Reservation | LimitReached:
        try:
            return self.limits.admit(subject, request_id, POLICY, cost)
        except LimitReached as refused:
            return refused

    @invariant()
    def charged_stays_within_what_time_allowed(self) -> None:
        """Conservation: what was admitted, less what came back, is never more than one burst, the
        refill since the beginning, and the overruns."""
        for subject, buckets_of_subject in self.model.items():
            for scope, bucket in buckets_of_subject.items():
                allowed = bucket.limit * (1 + (self.now - 100) / WINDOW)
                owed = self.debt[subject] if scope is Scope.TOKENS else 0
                assert bucket.charged <= allowed + owed + ROUNDING_UNITS

    @invariant()
    def only_known_subjects_are_remembered(self) -> None:
        assert self.limits.subjects <= len(SUBJECTS)


LimitsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLimits = LimitsMachine.TestCase
