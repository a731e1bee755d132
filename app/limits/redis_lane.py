"""Scripts on their way to Redis: calls that come together leave together, in one write.

A caller that gives up takes nothing along: it waits for a future, and the connection is the lane's
own. So no cancellation leaves a reply behind for the wrong call.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files

from redis.exceptions import MovedError, NoScriptError

from app.limits.enforcer import LimitsUnavailable
from app.limits.redis_wire import AWAY, Argument, Command, Reply, Wire

MAX_REASON_CHARACTERS = 200
# Calls that wait while a batch is on its way. It bounds memory.
MAX_WAITING_CALLS = 10_000
# In one write: Redis runs as many scripts in some 10 ms, and answers nobody else meanwhile.
MAX_BATCH_CALLS = 500
# A clock that rings so late was held up by this process: then replies may lie there unread.
STALL_SECONDS = 0.01


class Script:
    """One Lua script, with what all of them share, and the digest under which Redis keeps it."""

    def __init__(self, name: str) -> None:
        folder = files("app.limits") / "lua"
        self.name = name
        self.text = "\n".join(
            (folder / f"{part}.lua").read_text("utf-8") for part in ("common", name)
        )
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]
    reply: "asyncio.Future[Reply]"
    deadline: float  # by the loop's clock

    def command(self, *, whole: bool) -> Command:
        """By digest, or with its whole text: a Redis that has not seen it keeps it then."""
        how = ("EVAL", self.script.text) if whole else ("EVALSHA", self.script.digest)
        return (*how, len(self.keys), *self.keys, *self.arguments)


class RedisLane:
    """`run` sends until it is cancelled. Not for use from several threads."""

    def __init__(self, wire: Wire, *, timeout_seconds: float) -> None:
        self._wire = wire
        self._timeout_seconds = timeout_seconds
        self._calls: list[_Call] = []
        self._waiting = asyncio.Event()
        self._ended = False

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """Within `timeout_seconds`, or LimitsUnavailable."""
        if self._ended:
            raise LimitsUnavailable("the gateway is shutting down")
        if len(self._calls) >= MAX_WAITING_CALLS:
            raise LimitsUnavailable("too many calls wait")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        deadline = loop.time() + self._timeout_seconds
        self._calls.append(_Call(script, keys, arguments, reply, deadline))
        self._waiting.set()
        return await reply

    async def open(self) -> None:
        """Connects, so that the first call need not. Raises LimitsUnavailable."""
        try:
            await self._wire.open()
        except AWAY as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        await self._wire.close()

    async def run(self) -> None:
        """Ends only by cancellation; then nobody waits any longer."""
        self._ended = False
        try:
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                while self._calls:
                    await self._send()
        finally:
            self._ended = True
            _fail(self._calls, LimitsUnavailable("the gateway is shutting down"))
            self._calls = []

    async def _send(self) -> None:
        # What was given up before it left has been settled, perhaps in this very batch: not to be
        # admitted after that.
        waiting = [call for call in self._calls if not call.reply.done()]
        batch, self._calls = waiting[:MAX_BATCH_CALLS], waiting[MAX_BATCH_CALLS:]
        if not batch:
            return
        try:
            async with _until(batch[0].deadline):
                await self._exchange(batch, whole=False)
                unknown = [call for call in batch if not call.reply.done()]
                if unknown:
                    await self._exchange(unknown, whole=True)
        except AWAY as error:
            # Those that came meanwhile would wait for the same silence.
            late, self._calls = self._calls, []
            _fail([*batch, *late], _unavailable(error))
        finally:  # also where it was cancelled, or met a defect: nobody is left waiting
            _fail(batch, LimitsUnavailable("the gateway is shutting down"))

    async def _exchange(self, calls: list[_Call], *, whole: bool) -> None:
        """Leaves those undone whose script Redis does not know."""
        commands = [call.command(whole=whole) for call in calls]
        for call, reply in zip(calls, await self._wire.exchange(commands), strict=True):
            if call.reply.done() or (isinstance(reply, NoScriptError) and not whole):
                continue
            if isinstance(reply, Exception):
                _fail([call], _unavailable(reply))
            else:
                call.reply.set_result(reply)


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Raises TimeoutError at a moment of the loop's clock; a little later where the loop itself was
    held up, so that what has arrived meanwhile is read."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:

        def ring() -> None:
            late = loop.time() - deadline >= STALL_SECONDS
            scope.reschedule(loop.time() + (STALL_SECONDS if late else 0))

        timer = loop.call_at(deadline, ring)
        try:
            yield
        finally:
            timer.cancel()


def _fail(calls: list[_Call], error: LimitsUnavailable) -> None:
    for call in calls:
        if not call.reply.done():
            call.reply.set_exception(error)


def _unavailable(error: BaseException) -> LimitsUnavailable:
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, MovedError):
        text = f"{text}; this is a node of a cluster: set GATEWAY_REDIS_CLUSTER=true"
    return LimitsUnavailable(text[:MAX_REASON_CHARACTERS])
