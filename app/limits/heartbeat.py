"""Says to the other replicas that this one lives, and asks after Redis while it is away."""

import asyncio
import random
import uuid

from app.limits.enforcer import LimitsUnavailable
from app.limits.limiter import LIFE_SECONDS, Limiter
from app.limits.redis_lane import RedisLane
from app.limits.shared import SharedLimits

BEAT_SECONDS = LIFE_SECONDS / 3
PROBE_SECONDS = 1.0  # between probes while Redis is away; spread, as all replicas probe
PROBE_JITTER = 0.5
# To connect, or for a cluster to be found out. A reply may take no longer than the lane says.
OPEN_SECONDS = 2.0


class Heartbeat:
    """`run` beats until it is cancelled."""

    def __init__(self, lane: RedisLane, shared: SharedLimits, limiter: Limiter) -> None:
        self._lane = lane
        self._shared = shared
        self._limiter = limiter
        self._replica = uuid.uuid4().hex

    async def start(self) -> None:
        """The first beat. Without an answer the gateway starts nevertheless, degraded."""
        await self._beat(connecting=True)

    async def run(self) -> None:
        while True:
            if self._limiter.degraded:
                await asyncio.sleep(PROBE_SECONDS + PROBE_JITTER * random.random())  # noqa: S311 - no secret
            else:
                await asyncio.sleep(BEAT_SECONDS)
            await self._beat(connecting=self._limiter.degraded)

    async def leave(self) -> None:
        """So that the others need not wait until this replica's last beat runs out."""
        if self._limiter.degraded:
            return
        try:
            await self._shared.beat(self._replica, 0)
        except LimitsUnavailable:
            return

    async def _beat(self, *, connecting: bool) -> None:
        try:
            if connecting:
                async with asyncio.timeout(OPEN_SECONDS):
                    await self._lane.open()
                await self._limiter.probe()
            await self._limiter.heard(await self._shared.beat(self._replica, LIFE_SECONDS))
        except TimeoutError:
            self._limiter.failed(LimitsUnavailable("no connection in time"), at_once=True)
        except LimitsUnavailable as error:
            self._limiter.failed(error, at_once=connecting)
