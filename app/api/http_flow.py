"""The parts of a connection that know the time: a deadline, reading that can be held, and a client
that stopped reading."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from uvicorn.protocols.http.flow_control import FlowControl

# Of connections that are ended without a word, as they are counted.
CUT = "connection_cut"
STALLED = "client_stalled"


class ServerSide(NamedTuple):
    """What a connection asks of its server, and tells it. While `last_answers()`, each answer ends
    its connection, so that the next request is sent elsewhere. `refused` is told the code of what
    is refused in place of the application."""

    last_answers: Callable[[], bool] = lambda: False
    refused: Callable[[str], None] = lambda code: None


class Deadline:
    """A timer for things that nearly always come in time: to move it costs no system timer.

    The loop's timer stays where it is when the deadline moves away from it, and looks again when
    it fires. A deadline that passes calls `expired` once.
    """

    __slots__ = ("_due", "_expired", "_fires_at", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._due = 0.0
        self._fires_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """From now; whatever was set before no longer counts."""
        self._due = due = self._loop.time() + seconds
        if self._handle is not None:
            if self._fires_at <= due:
                return
            self._handle.cancel()
        self._schedule()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        self._fires_at = self._due
        self._handle = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._loop.time() < self._due:
            self._schedule()
        else:
            self._expired()


class ReadingFlow(FlowControl):
    """Knows for how long reading was held: that time is ours, not the client's."""

    def __init__(self, transport: asyncio.Transport, clock: Callable[[], float]) -> None:
        super().__init__(transport)
        self._clock = clock
        self._held_at = 0.0
        self._held_seconds = 0.0

    @property
    def held_seconds(self) -> float:
        """Since the connection was made."""
        now_held = self._clock() - self._held_at if self.read_paused else 0.0
        return self._held_seconds + now_held

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._held_at = self._clock()
            super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self._held_seconds += self._clock() - self._held_at
            super().resume_reading()


class Stall:
    """While output waits to be taken: who takes none of it for `seconds` is cut off."""

    __slots__ = ("_handle", "_loop", "_refused", "_seconds", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        refused: Callable[[str], None],
    ) -> None:
        """`refused` is told STALLED when it happens."""
        self._refused = refused
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        if self._handle is None:
            pending_bytes = self._transport.get_write_buffer_size()
            self._handle = self._loop.call_later(self._seconds, self._stalled, pending_bytes)

    def arm_if_pending(self) -> None:
        """A closing connection waits for its output to be taken: not for ever."""
        if self._transport.get_write_buffer_size():
            self.arm()

    def disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _stalled(self, pending_bytes: int) -> None:
        """A client that took some of what was pending is slow, and not gone."""
        self._handle = None
        if self._transport.get_write_buffer_size() < pending_bytes:
            self.arm()
        else:
            self._refused(STALLED)
            self._transport.abort()
