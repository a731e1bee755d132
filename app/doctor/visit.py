"""One examination: what it is about, and how patient it is."""

from collections.abc import Callable
from dataclasses import dataclass

from app.settings import Settings

# Of what answers within milliseconds when it is well; longer than a connection may take.
CHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Visit:
    """`now` is in seconds since the epoch. `asks_workers`: whether they are asked questions, which
    cost them an answer each; those may take `worker_check_seconds`, all else `seconds`."""

    settings: Settings
    now: Callable[[], float]
    seconds: float = CHECK_SECONDS
    asks_workers: bool = True
