"""The flood guard: slowapi's decorator on counters of ours."""

import threading

import pytest
from fastapi import Request

from app.api.flood_guard import Guard, build_flood_guard
from app.api.flood_windows import FloodWindows
from app.errors import RateLimited


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return build_flood_guard("test", 3, clock)


def request_from(address: str | None) -> Request:
    client = None if address is None else (address, 1234)
    return Request({"type": "http", "path": "/x", "method": "GET", "headers": [], "client": client})


async def refusal(guard: Guard, address: str | None) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await guard(request_from(address))
    return caught.value


async def test_a_refusal_says_what_is_left_of_the_window(guard: Guard, clock: Clock) -> None:
    for _ in range(3):
        await guard(request_from("192.0.2.1"))
    assert (await refusal(guard, "192.0.2.1")).retry_after_seconds == 60
    clock.now += 17.5
    assert (await refusal(guard, "192.0.2.1")).retry_after_seconds == 43
    clock.now += 42.4
    assert (await refusal(guard, "192.0.2.1")).retry_after_seconds == 1
    clock.now += 0.1
    await guard(request_from("192.0.2.1"))


async def test_networks_are_counted_apart(guard: Guard) -> None:
    for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"):
        await guard(request_from(address))
    await refusal(guard, "2001:db8::4")
    await guard(request_from("2001:db8:0:1::4"))
    await guard(request_from("192.0.2.1"))


@pytest.mark.parametrize("address", [None, ""])
async def test_clients_without_an_address_are_counted_together(
    guard: Guard, address: str | None
) -> None:
    for _ in range(3):
        await guard(request_from(address))
    await refusal(guard, address)


async def test_nothing_in_the_environment_takes_the_guard_away(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    guard = build_flood_guard("test", 3, clock)
    for _ in range(3):
        await guard(request_from("192.0.2.1"))
    await refusal(guard, "192.0.2.1")


async def test_no_thread_is_started(guard: Guard) -> None:
    before = set(threading.enumerate())  # of other tests, some may end meanwhile
    await guard(request_from("192.0.2.1"))
    assert set(threading.enumerate()) <= before


def test_windows_that_have_ended_are_forgotten(clock: Clock) -> None:
    windows = FloodWindows(clock=clock)
    for number in range(5000):
        assert windows.incr(f"network {number}", 60) == 1
        clock.now += 0.1
    assert len(windows) <= 60 / 0.1 + 1


def test_a_flood_from_many_networks_leaves_the_newest_windows(clock: Clock) -> None:
    windows = FloodWindows(clock=clock, max_windows=100)
    for number in range(1000):
        windows.incr(f"network {number}", 60)
    assert len(windows) == 100
    assert windows.incr("network 999", 60) == 2
    assert windows.get("network 0") == 0
