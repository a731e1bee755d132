import pytest

from app.limits import gcra

LIMITS = [1, 7, 60, 999, 10**6, 10**12]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_full_bucket_holds_the_limit_and_not_one_more(limit: int) -> None:
    assert gcra.wait_seconds(0.0, limit, limit) == 0
    assert gcra.wait_seconds(float(limit), limit, 1) == pytest.approx(60 / limit)
    assert gcra.wait_seconds(float(limit - 1), limit, 1) == 0
    assert gcra.fits(limit, limit)
    assert not gcra.fits(limit, limit + 1)


def test_time_brings_units_back_at_the_rate_of_the_limit() -> None:
    assert gcra.wait_seconds(60.0, 60, 10) == pytest.approx(10.0)
    assert gcra.missing(60.0, 60, 5.0) == pytest.approx(55.0)
    assert gcra.missing(60.0, 60, 10_000.0) == 0


def test_a_clock_that_steps_back_brings_nothing_and_takes_nothing() -> None:
    assert gcra.missing(60.0, 60, -3600.0) == 60


def test_debt_is_paid_by_time() -> None:
    assert gcra.wait_seconds(120.0, 60, 1) == pytest.approx(61.0)
    assert gcra.fill_seconds(120.0, 60) == pytest.approx(120.0)
    assert gcra.remaining(120.0, 60) == 0


@pytest.mark.parametrize("limit", LIMITS)
def test_rounding_costs_nobody_a_unit(limit: int) -> None:
    """A tenth and two tenths are more than three, for doubles."""
    thirds = gcra.missing(float(limit), limit, 60 / limit * 0.1)
    thirds = gcra.missing(thirds, limit, 60 / limit * 0.2)
    thirds = gcra.missing(thirds, limit, 60 / limit * 0.7)
    assert gcra.wait_seconds(thirds, limit, 1) == 0
    assert gcra.remaining(thirds, limit) == 1
