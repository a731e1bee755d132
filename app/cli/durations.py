"""Durations on the command line: 90s, 15m, 24h, 30d, 2w."""

import re
from collections.abc import Callable
from datetime import timedelta

import click

_FORM = re.compile(r"(\d{1,9})([smhdw]?)", re.ASCII)
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
LONGEST = timedelta(days=36_500)  # a century: what lies beyond is a slip of the finger


def duration(
    *, shortest: timedelta = timedelta(0), longest: timedelta = LONGEST
) -> Callable[[str], timedelta]:
    """An option's type: a number with its unit (seconds without one), within the bounds."""

    def duration(value: str) -> timedelta:  # its name is what --help shows
        match = _FORM.fullmatch(value)
        if match is None:
            raise click.BadParameter(f"{value!r} is not like 90s, 15m, 24h, 30d or 2w")
        seconds = int(match[1]) * _UNIT_SECONDS[match[2]]
        if not shortest.total_seconds() <= seconds <= longest.total_seconds():
            bounds = f"{_words(shortest)} and {_words(longest)}"
            raise click.BadParameter(f"{value!r} is not between {bounds}")
        return timedelta(seconds=seconds)

    return duration


def _words(duration: timedelta) -> str:
    return f"{duration.days}d" if duration.days else f"{duration.seconds}s"
