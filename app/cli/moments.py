"""Moments at the terminal."""

from datetime import UTC, datetime


def minute(seconds: int | None) -> str | None:
    """`2026-01-31 12:00Z` for Unix seconds, None for None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")
