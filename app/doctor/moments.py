"""Clocks. Without a network there is only one to compare ours with: that of whoever answers."""

# Windows of limits, expiry of keys and partitions of days bear with a second; more is no drift but
# a clock that nobody sets.
MAX_OFFSET_SECONDS = 1.0


def offset_words(whose: str, offset_seconds: float, round_trip_seconds: float) -> str:
    """`offset_seconds` is how far the other one is ahead, known to half a round trip."""
    ahead = "ahead of" if offset_seconds >= 0 else "behind"
    sure = round_trip_seconds / 2
    return f"{whose} is {abs(offset_seconds):.3f} s {ahead} us (within {sure:.3f} s)"
