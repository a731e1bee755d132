"""The scripts of the limits on a clock that a test sets. A real Redis has only its own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache

from app.limits.redis_lane import RedisLane, Script
from app.limits.redis_wire import Argument, Reply, make_wire

# Generous: what these tests are about is not how fast it is.
PATIENCE_SECONDS = 30.0

CLOCK = "local time = redis.call('TIME')"
# One more argument, gone before anything else reads them: seconds, and six digits behind.
MOMENT = """local moment = table.remove(ARGV)
local time = {string.sub(moment, 1, -7), string.sub(moment, -6)}"""


class Moment:
    """Microseconds since the epoch; called, it gives seconds."""

    def __init__(self, us: int) -> None:
        self.us = us

    def __call__(self) -> float:
        return self.us / 1_000_000

    def step(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)


class MomentLane(RedisLane):
    """Runs every script as it is, but for the line that asks Redis for the time."""

    moment: Moment

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        return await super().call(_moved(script.name), keys, [*arguments, str(self.moment.us)])


def script(text: str) -> Script:
    """One that is none of ours."""
    made = Script("heartbeat")
    made.text = text
    made.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return made


@cache
def _moved(name: str) -> Script:
    text = Script(name).text
    assert text.count(CLOCK) == text.count("'TIME'") == 1
    return script(text.replace(CLOCK, MOMENT))


@asynccontextmanager
async def running_lane(
    url: str,
    *,
    moment: Moment | None = None,
    cluster: bool = False,
    timeout_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[RedisLane]:
    """On the clock of Redis where no moment is given."""
    wire = make_wire(url, cluster=cluster, connect_seconds=PATIENCE_SECONDS)
    lane = (RedisLane if moment is None else MomentLane)(wire, timeout_seconds=timeout_seconds)
    if isinstance(lane, MomentLane) and moment is not None:
        lane.moment = moment
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lane.close)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        run = group.create_task(lane.run())
        stack.callback(run.cancel)
        yield lane
