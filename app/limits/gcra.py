"""The generic cell rate algorithm: a rate with bursts, in one number for each bucket.

That number is `full_at`, the moment at which the bucket is full again. Taking from the bucket
moves it on, time does not: the bucket holds what time has brought back. A bucket takes one minute
to fill, so a burst may use the whole minute's allowance, and a rest of one minute restores it.

Units are whatever a limit counts (requests, tokens); moments are monotonic seconds, given by the
caller.
"""

WINDOW_SECONDS = 60.0

# What the rounding of doubles may add up to. Of 10,000 requests a minute it is a ten-thousandth of
# one request.
_ROUNDING_SECONDS = 1e-6


def seconds_for(units: int, limit: int) -> float:
    """How long a bucket of `limit` units needs to bring back `units`."""
    return units * WINDOW_SECONDS / limit


def wait_seconds(full_at: float, limit: int, units: int, now: float) -> float:
    """How long until `units` can be taken; 0 where they can be now.

    Meaningless for more than the whole bucket, which can never be taken: ask `fits` first.
    """
    wait = take(full_at, limit, units, now) - now - WINDOW_SECONDS
    return wait if wait > _ROUNDING_SECONDS else 0.0


def fits(limit: int, units: int) -> bool:
    """Whether a full bucket holds as much."""
    return units <= limit


def take(full_at: float, limit: int, units: int, now: float) -> float:
    """The new `full_at`. Takes what is not there as debt, for time to pay."""
    return max(full_at, now) + seconds_for(units, limit)


def give_back(full_at: float, limit: int, units: int, now: float) -> float:
    """The new `full_at`, never before now: time may already have brought the units back."""
    return max(full_at - seconds_for(units, limit), now)


def used_units(full_at: float, limit: int, now: float) -> int:
    """What is missing from the bucket; more than `limit` while there is debt."""
    return round(max(full_at - now, 0.0) * limit / WINDOW_SECONDS)
