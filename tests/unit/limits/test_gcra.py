import pytest

from app.limits import gcra


def taken(limit: int, *units: int, now: float) -> float:
    full_at = 0.0
    for unit in units:
        full_at = gcra.take(full_at, limit, unit, now)
    return full_at


def test_a_fresh_bucket_allows_a_whole_minute_at_once_and_no_more() -> None:
    full_at = 0.0
    for _ in range(7):
        assert gcra.wait_seconds(full_at, 7, 1, now=100.0) == 0
        full_at = gcra.take(full_at, 7, 1, now=100.0)
    assert gcra.wait_seconds(full_at, 7, 1, now=100.0) == pytest.approx(60 / 7)


def test_time_brings_units_back_at_the_rate_of_the_limit() -> None:
    full_at = taken(60, 60, now=100.0)
    assert gcra.wait_seconds(full_at, 60, 10, now=105.0) == pytest.approx(5.0)
    assert gcra.wait_seconds(full_at, 60, 10, now=110.0) == 0


def test_a_long_rest_saves_up_no_more_than_one_minute() -> None:
    full_at = taken(60, 60, now=100.0)
    full_at = gcra.take(full_at, 60, 60, now=10_000.0)
    assert gcra.wait_seconds(full_at, 60, 1, now=10_000.0) == pytest.approx(1.0)


def test_more_than_the_bucket_never_fits() -> None:
    assert gcra.fits(100, 100)
    assert not gcra.fits(100, 101)


def test_giving_back_never_reaches_before_now() -> None:
    full_at = taken(60, 30, now=100.0)
    assert gcra.give_back(full_at, 60, 10, now=100.0) == pytest.approx(120.0)
    assert gcra.give_back(full_at, 60, 30, now=125.0) == 125.0
    assert gcra.give_back(full_at, 60, 1, now=500.0) == 500.0


def test_debt_is_paid_by_time() -> None:
    full_at = taken(60, 60, 60, now=100.0)
    assert gcra.used_units(full_at, 60, now=100.0) == 120
    assert gcra.wait_seconds(full_at, 60, 1, now=100.0) == pytest.approx(61.0)


def test_used_units_counts_what_is_missing() -> None:
    assert gcra.used_units(0.0, 60, now=100.0) == 0
    assert gcra.used_units(taken(60, 13, now=100.0), 60, now=100.0) == 13
    assert gcra.used_units(taken(60, 13, now=100.0), 60, now=103.0) == 10


@pytest.mark.parametrize("limit", [1, 7, 60, 999, 10**6, 10**12])
def test_the_whole_bucket_at_once_fits_late_in_the_life_of_a_machine(limit: int) -> None:
    ten_years = 3.2e8
    assert gcra.wait_seconds(0.0, limit, limit, now=ten_years + 1 / 3) == 0
