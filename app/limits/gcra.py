"""The generic cell rate algorithm: a rate with bursts, in one number for each bucket.

That number is what is missing from the bucket. Taking adds to it, time takes away from it: a bucket
takes one minute to fill, so a burst may use the whole minute's allowance, and a rest of one minute
restores it. Kept in units rather than as the moment at which the bucket is full, a limit may change
under it, and rounding never costs a unit.

Units are whatever a limit counts (requests, tokens).
"""

import math

WINDOW_SECONDS = 60.0


def missing(units: float, limit: int, elapsed_seconds: float) -> float:
    """What of `units` is still missing. A clock that stepped back brings nothing."""
    return max(0.0, units - max(0.0, elapsed_seconds) * limit / WINDOW_SECONDS)


def wait_seconds(units: float, limit: int, cost: int) -> float:
    """How long until `cost` can be taken; 0 where it can be now.

    Meaningless for more than the whole bucket, which can never be taken: ask `fits` first.
    """
    over = units + cost - limit
    return over * WINDOW_SECONDS / limit if over > rounding_units(limit) else 0.0


def fits(limit: int, cost: int) -> bool:
    """Whether a full bucket holds as much."""
    return cost <= limit


def fill_seconds(units: float, limit: int) -> float:
    """How long until nothing is missing."""
    return units * WINDOW_SECONDS / limit


def remaining(units: float, limit: int) -> int:
    """What can be taken, in whole units."""
    return max(0, math.floor(limit - units + rounding_units(limit)))


def lowered(units: float, before: int | None, limit: int | None) -> float:
    """What is missing after a limit changed. Of one that was lowered, as many seconds as before:
    else a bucket that held a thousand would take hours to fill with ten a minute."""
    if before is None or limit is None or limit >= before:
        return units
    return units * limit / before


def rounding_units(limit: int) -> float:
    """What the rounding of doubles may add up to; less than a unit of the largest limit, 10^12."""
    return 1e-9 + limit * 1e-13
