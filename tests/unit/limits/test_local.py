import re

import pytest

from app.limits.local import LEASE_SECONDS, LimitReached, LocalLimits, Scope
from app.store.policy import Policy

# What clients look for in the message, to know how long to wait.
TRY_AGAIN = re.compile(r"try again in\s*(\d+(?:\.\d+)?)\s*(s|ms|seconds?)")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> LocalLimits:
    return LocalLimits(clock)


def refusal(limits: LocalLimits, policy: Policy, cost_tokens: int = 1) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        limits.admit("key_a", "req_refused", policy, cost_tokens)
    return caught.value


def test_a_subject_without_limits_is_admitted_and_not_remembered(limits: LocalLimits) -> None:
    reservation = limits.admit("key_a", "req_1", Policy(), 10**9)
    limits.settle(reservation, 5)
    assert limits.subjects == 0


def test_requests_over_the_minute_are_refused_in_the_words_that_clients_parse(
    limits: LocalLimits, clock: Clock
) -> None:
    policy = Policy(requests_per_minute=40)
    for number in range(40):
        limits.admit("key_a", f"req_{number}", policy, 1)
    error = refusal(limits, policy)
    assert error.message == (
        "Rate limit reached for key_a on requests per min (RPM): Limit 40, Used 40, Requested 1. "
        "Please try again in 1.5s."
    )
    assert TRY_AGAIN.search(error.message)
    assert (error.status, error.code, error.scope) == (429, "rate_limit_exceeded", Scope.REQUESTS)
    assert error.retry_after_seconds == pytest.approx(1.5)
    clock.now += 1.5
    limits.admit("key_a", "req_later", policy, 1)


def test_a_short_wait_is_said_in_milliseconds_and_asked_as_a_second(
    limits: LocalLimits, clock: Clock
) -> None:
    policy = Policy(tokens_per_minute=60_000)
    limits.admit("key_a", "req_1", policy, 60_000)
    error = refusal(limits, policy, 20)
    assert "Please try again in 20ms." in error.message
    assert error.retry_after_seconds == 1


def test_no_wait_longer_than_clients_obey_is_asked_for(limits: LocalLimits) -> None:
    policy = Policy(tokens_per_minute=100)
    limits.settle(limits.admit("key_a", "req_1", policy, 100), 300)
    error = refusal(limits, policy, 50)
    assert "Used 300" in error.message
    assert "Please try again in 150s." in error.message
    assert error.retry_after_seconds == 60


def test_a_request_larger_than_the_bucket_is_told_not_to_come_back(limits: LocalLimits) -> None:
    error = refusal(limits, Policy(tokens_per_minute=1000), 1001)
    assert error.message.startswith("Request too large for key_a on tokens per min (TPM)")
    assert "Limit 1000, Requested 1001" in error.message
    assert error.should_retry is False
    assert error.retry_after_seconds is None
    assert (b"x-should-retry", b"false") in error.headers()


def test_a_refusal_takes_nothing(limits: LocalLimits) -> None:
    policy = Policy(requests_per_minute=2, tokens_per_minute=100, concurrency=5)
    limits.admit("key_a", "req_1", policy, 90)
    assert refusal(limits, policy, 20).scope is Scope.TOKENS
    limits.admit("key_a", "req_2", policy, 10)
    assert refusal(limits, policy).scope is Scope.REQUESTS


def test_unused_tokens_come_back_and_the_request_does_not(limits: LocalLimits) -> None:
    policy = Policy(requests_per_minute=2, tokens_per_minute=100)
    limits.settle(limits.admit("key_a", "req_1", policy, 100), 10)
    limits.admit("key_a", "req_2", policy, 90)
    assert refusal(limits, policy).scope is Scope.REQUESTS


def test_settling_twice_gives_back_once(limits: LocalLimits) -> None:
    policy = Policy(tokens_per_minute=100)
    reservation = limits.admit("key_a", "req_1", policy, 50)
    limits.admit("key_a", "req_2", policy, 50)
    limits.settle(reservation, 0)
    limits.settle(reservation, 0)
    assert "Used 50" in refusal(limits, policy, 60).message


def test_tokens_come_back_at_the_rate_at_which_they_were_taken(limits: LocalLimits) -> None:
    reservation = limits.admit("key_a", "req_1", Policy(tokens_per_minute=100), 100)
    limits.settle(reservation, 0)
    limits.admit("key_a", "req_2", Policy(tokens_per_minute=1000), 1000)


def test_concurrency_is_freed_by_settling(limits: LocalLimits) -> None:
    policy = Policy(concurrency=1)
    reservation = limits.admit("key_a", "req_1", policy, 1)
    error = refusal(limits, policy)
    assert error.scope is Scope.CONCURRENCY
    assert "on concurrent requests: Limit 1, Used 1" in error.message
    assert error.retry_after_seconds == 1
    limits.settle(reservation, 1)
    limits.admit("key_a", "req_2", policy, 1)


def test_a_lease_that_nobody_settles_ends_by_itself(limits: LocalLimits, clock: Clock) -> None:
    policy = Policy(concurrency=1)
    reservation = limits.admit("key_a", "req_1", policy, 1)
    clock.now += LEASE_SECONDS
    limits.admit("key_a", "req_2", policy, 1)
    limits.settle(reservation, 1)
    assert refusal(limits, policy).scope is Scope.CONCURRENCY


def test_the_same_request_asked_twice_takes_once(limits: LocalLimits) -> None:
    policy = Policy(requests_per_minute=1, concurrency=1)
    first = limits.admit("key_a", "req_1", policy, 1)
    assert limits.admit("key_a", "req_1", policy, 1) is first


def test_subjects_do_not_share(limits: LocalLimits) -> None:
    policy = Policy(requests_per_minute=1)
    limits.admit("key_a", "req_1", policy, 1)
    limits.admit("key_b", "req_2", policy, 1)
    refusal(limits, policy)


def test_idle_subjects_are_forgotten_and_running_ones_are_not(
    limits: LocalLimits, clock: Clock
) -> None:
    policy = Policy(tokens_per_minute=100, concurrency=1)
    running = limits.admit("key_running", "req_running", policy, 100)
    for number in range(1000):
        limits.settle(limits.admit(f"key_{number}", f"req_{number}", policy, 1), 1)
        clock.now += 1
    assert limits.subjects <= 150
    with pytest.raises(LimitReached):
        limits.admit("key_running", "req_more", policy, 1)
    limits.settle(running, 1)
