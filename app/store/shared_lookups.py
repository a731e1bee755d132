"""Concurrent questions about one thing become one question."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.errors import GatewayError

Subject = TypeVar("Subject")
Found = TypeVar("Found")


@dataclass(slots=True)
class _Lookup(Generic[Found]):
    asked_at: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    found: tuple[Found] | None = None
    failure: GatewayError | None = None


class SharedLookups(Generic[Subject, Found]):
    """The first to ask does the work in its own task and the others wait for it. If it is
    cancelled (its client left) one of the others asks again; if it fails they fail alike."""

    def __init__(self, *, max_age_seconds: float, clock: Callable[[], float]) -> None:
        # Nobody joins a question older than this: its answer may be older than they may accept.
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._running: dict[Subject, _Lookup[Found]] = {}

    async def run(self, subject: Subject, look_up: Callable[[], Awaitable[Found]]) -> Found:
        """Raises what `look_up` raises."""
        while True:
            lookup = self._running.get(subject)
            if lookup is None or self._clock() - lookup.asked_at >= self._max_age_seconds:
                return await self._lead(subject, look_up)
            await lookup.done.wait()
            if lookup.failure is not None:
                raise lookup.failure
            if lookup.found is not None:
                return lookup.found[0]

    async def _lead(self, subject: Subject, look_up: Callable[[], Awaitable[Found]]) -> Found:
        lookup: _Lookup[Found] = _Lookup(self._clock())
        self._running[subject] = lookup
        try:
            found = await look_up()
        except GatewayError as failure:
            lookup.failure = failure
            raise
        else:
            lookup.found = (found,)
            return found
        finally:
            if self._running.get(subject) is lookup:
                del self._running[subject]
            lookup.done.set()
