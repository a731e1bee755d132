"""Failed authentications, counted for each client network in this process: nothing is asked of
Redis or Postgres, so that guessing at keys costs whoever guesses, and not the key store.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.errors import AuthenticationFailure, RateLimited
from app.limits import gcra

# ~220 bytes each. Above it the network whose last attempt is oldest makes room; who has as many
# networks as that is not held by what each of them may do.
MAX_NETWORKS = 40_000

# Looked at in each attempt, of which at most one is of a new network: those whose buckets are full
# again are forgotten faster than others can come.
_EXAMINED_PER_ATTEMPT = 2

# Attempts whose outcome is not known yet. As many as the key store asks about strangers at once: it
# is no slower for that, and hardly any is refused for failures that the others may never become.
UNDECIDED_AT_ONCE = 2

# SDKs obey a retry-after of up to this.
MAX_RETRY_SECONDS = 60


class AuthenticationThrottled(RateLimited):
    failure = AuthenticationFailure.THROTTLED


@dataclass(slots=True)
class Attempt:
    failed: bool = False


@dataclass(slots=True)
class _Bucket:
    missing: float  # failures, at `at` in the clock's seconds
    at: float


class FailedAttempts:
    """A bucket of `limit` failures for each network, which a minute fills (`gcra`). `clock` gives
    monotonic seconds. Not for use from several threads.
    """

    def __init__(
        self, limit: int, clock: Callable[[], float], *, max_networks: int = MAX_NETWORKS
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._max_networks = max_networks
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()  # the oldest attempt is in front
        self._undecided = asyncio.Semaphore(UNDECIDED_AT_ONCE)

    @property
    def networks(self) -> int:
        """How many networks are remembered."""
        return len(self._buckets)

    def check(self, network: str) -> None:
        """Raises AuthenticationThrottled where the bucket is empty."""
        wait = gcra.wait_seconds(self._missing(network, self._clock()), self._limit, 1)
        if wait == 0:
            return
        seconds = min(max(math.ceil(wait), 1), MAX_RETRY_SECONDS)
        raise AuthenticationThrottled(
            "Too many requests without a valid API key came from your network address. "
            f"Please try again in {seconds}s.",
            retry_after_seconds=seconds,
        )

    def fail(self, network: str) -> None:
        """Takes one. Of an empty bucket it takes nothing: a key that expired in a busy client does
        not keep the new keys of its network waiting for longer than that."""
        now = self._clock()
        self._forget_idle(now)
        missing = min(self._missing(network, now) + 1, self._limit)
        self._buckets.pop(network, None)
        if len(self._buckets) >= self._max_networks:
            self._buckets.popitem(last=False)
        self._buckets[network] = _Bucket(missing, now)

    @asynccontextmanager
    async def undecided(self, network: str, *, within_seconds: float) -> AsyncIterator[Attempt]:
        """Around an attempt whose outcome has to be asked for. It takes one beforehand, so that
        attempts at the same time cannot get past the bucket together, and gives it back unless the
        attempt `failed`.

        Raises AuthenticationThrottled, and TimeoutError where its turn does not come in time.
        """
        self.check(network)
        async with asyncio.timeout(within_seconds):
            await self._undecided.acquire()
        attempt = Attempt()
        try:
            self.check(network)  # again: while it waited, others of this network had their turn
            self.fail(network)
            try:
                yield attempt
            finally:
                if not attempt.failed and network in self._buckets:
                    self._give_back(network)
        finally:
            self._undecided.release()

    def _missing(self, network: str, now: float) -> float:
        bucket = self._buckets.get(network)
        if bucket is None:
            return 0.0
        return gcra.missing(bucket.missing, self._limit, now - bucket.at)

    def _give_back(self, network: str) -> None:
        now = self._clock()
        missing = max(self._missing(network, now) - 1, 0.0)
        self._buckets[network] = _Bucket(missing, now)

    def _forget_idle(self, now: float) -> None:
        for _ in range(_EXAMINED_PER_ATTEMPT):
            first = next(iter(self._buckets), None)
            if first is None or self._missing(first, now) > 0:
                return
            del self._buckets[first]
