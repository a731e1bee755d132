import asyncio
from contextlib import AsyncExitStack

import pytest

from app.errors import AuthenticationFailure
from app.limits.attempts import UNDECIDED_AT_ONCE, AuthenticationThrottled, FailedAttempts

NETWORK = "192.0.2.1"
OTHER = "2001:db8::/64"
LONG = 60.0  # for a turn that comes at once


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> FailedAttempts:
    return FailedAttempts(30, clock)


def fail(attempts: FailedAttempts, network: str = NETWORK, times: int = 1) -> None:
    for _ in range(times):
        attempts.check(network)
        attempts.fail(network)


async def attempt(attempts: FailedAttempts, *, failed: bool, network: str = NETWORK) -> None:
    async with attempts.undecided(network, within_seconds=LONG) as one:
        one.failed = failed


def test_a_network_may_fail_as_often_as_a_minute_allows(attempts: FailedAttempts) -> None:
    fail(attempts, times=30)
    with pytest.raises(AuthenticationThrottled) as refusal:
        attempts.check(NETWORK)
    assert (refusal.value.status, refusal.value.code) == (429, "rate_limit_exceeded")
    assert refusal.value.failure is AuthenticationFailure.THROTTLED
    assert "Please try again in 2s." in refusal.value.message
    assert dict(refusal.value.headers()) == {b"retry-after": b"2", b"retry-after-ms": b"2000"}
    attempts.check(OTHER)


def test_time_brings_attempts_back_one_by_one(attempts: FailedAttempts, clock: Clock) -> None:
    fail(attempts, times=30)
    clock.now += 2.0
    fail(attempts)
    with pytest.raises(AuthenticationThrottled):
        attempts.check(NETWORK)
    clock.now += 60.0
    fail(attempts, times=30)


def test_failing_on_with_an_empty_bucket_makes_nobody_wait_longer(
    attempts: FailedAttempts, clock: Clock
) -> None:
    for _ in range(1000):
        attempts.fail(NETWORK)
    clock.now += 2.0
    attempts.check(NETWORK)


def test_the_longest_wait_is_one_that_clients_obey(clock: Clock) -> None:
    attempts = FailedAttempts(1, clock)
    fail(attempts)
    with pytest.raises(AuthenticationThrottled) as refusal:
        attempts.check(NETWORK)
    assert refusal.value.retry_after_seconds == 60


async def test_an_attempt_that_did_not_fail_costs_nothing(attempts: FailedAttempts) -> None:
    fail(attempts, times=29)
    for _ in range(100):
        await attempt(attempts, failed=False)
    await attempt(attempts, failed=True)
    with pytest.raises(AuthenticationThrottled):
        await attempt(attempts, failed=False)


async def test_an_attempt_that_nobody_could_decide_costs_nothing(attempts: FailedAttempts) -> None:
    fail(attempts, times=29)
    for _ in range(100):
        with pytest.raises(RuntimeError):
            async with attempts.undecided(NETWORK, within_seconds=LONG):
                raise RuntimeError("the store is away")
    fail(attempts)


async def test_attempts_at_the_same_time_do_not_get_past_the_bucket_together(
    attempts: FailedAttempts,
) -> None:
    asked = 0

    async def guess() -> None:
        nonlocal asked
        async with attempts.undecided(NETWORK, within_seconds=LONG) as one:
            asked += 1
            await asyncio.sleep(0)
            one.failed = True

    outcomes = await asyncio.gather(*(guess() for _ in range(200)), return_exceptions=True)
    assert asked == 30
    assert sum(isinstance(outcome, AuthenticationThrottled) for outcome in outcomes) == 170


async def test_more_good_keys_at_once_than_may_fail_wait_and_pass(
    attempts: FailedAttempts,
) -> None:
    async def first_use() -> None:
        async with attempts.undecided(NETWORK, within_seconds=LONG):
            await asyncio.sleep(0)

    await asyncio.gather(*(first_use() for _ in range(200)))
    fail(attempts, times=30)


async def test_a_turn_that_does_not_come_in_time_is_given_up(attempts: FailedAttempts) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(UNDECIDED_AT_ONCE):
            await stack.enter_async_context(attempts.undecided(NETWORK, within_seconds=LONG))
        with pytest.raises(TimeoutError):
            async with attempts.undecided(OTHER, within_seconds=0.0):
                pass
    await attempt(attempts, failed=False)


def test_networks_that_may_fail_again_are_forgotten(attempts: FailedAttempts, clock: Clock) -> None:
    for number in range(10_000):
        fail(attempts, f"10.0.{number // 256}.{number % 256}")
        clock.now += 0.01
    assert attempts.networks <= 2.0 / 0.01 + 1  # as many as failed within the time of one failure


def test_no_flood_makes_it_remember_more_than_its_bound(clock: Clock) -> None:
    attempts = FailedAttempts(30, clock, max_networks=100)
    for number in range(1000):
        fail(attempts, f"2001:db8:0:{number:x}::/64")
    fail(attempts, NETWORK, times=30)
    assert attempts.networks == 100
    with pytest.raises(AuthenticationThrottled):
        attempts.check(NETWORK)
