"""Moments at the terminal."""

from datetime import UTC, datetime

import click

from app.audit.search import EARLIEST, LATEST
from app.cli.durations import duration


def minute(seconds: int | None) -> str | None:
    """`2026-01-31 12:00Z` for Unix seconds, None for None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


def second(moment: datetime | None) -> str | None:
    """`2026-01-31 12:00:00Z`, None for None."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def moment(value: str) -> datetime:  # its name is what --help shows
    """An option's type: a duration, for so long ago, or a date with or without a time, of UTC where
    no other offset is given."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        pass
    else:
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        if not EARLIEST <= found <= LATEST:
            raise click.BadParameter(f"{value!r} is not between {EARLIEST:%Y} and {LATEST:%Y}")
        return found
    try:
        return datetime.now(UTC) - duration()(value)
    except click.BadParameter:
        raise click.BadParameter(
            f"{value!r} is neither like 90s, 15m, 24h or 30d, for so long ago, "
            "nor like 2026-01-31 or 2026-01-31T12:00Z"
        ) from None
