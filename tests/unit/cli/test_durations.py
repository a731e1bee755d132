from datetime import timedelta

import click
import pytest

from app.cli.durations import duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(hours=24)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
        ("3600", timedelta(hours=1)),
        ("0", timedelta(0)),
    ],
)
def test_a_number_with_its_unit_is_a_duration(text: str, expected: timedelta) -> None:
    assert duration()(text) == expected


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5h", "1 d", "1y", "1D", "9999999999s", "²d"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="30d"):
        duration()(text)


def test_the_bounds_are_named() -> None:
    bounded = duration(shortest=timedelta(seconds=1), longest=timedelta(days=30))
    assert bounded("30d") == timedelta(days=30)
    for text in ("0", "31d"):
        with pytest.raises(click.BadParameter, match="between 1s and 30d"):
            bounded(text)


def test_a_century_is_the_most() -> None:
    with pytest.raises(click.BadParameter):
        duration()("999999999w")
