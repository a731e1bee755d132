"""A worker's running answer, read as it comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from app.errors import UpstreamFailed
from app.upstream.ejection import Fault
from app.upstream.timeouts import TimedOut, Timeout
from app.upstream.watch import Attempt


@dataclass(frozen=True, slots=True)
class Patience:
    """With one answer."""

    first_byte_seconds: float  # from the request on, up to the first token
    answer_seconds: float  # from the request on, up to the end


class WorkerStream:
    """A worker's running answer. Closing it before its end makes the engine stop."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        attempt: Attempt,
        patience: Patience,
        asked_at: float,
        abandon: Callable[[], None] | None = None,
    ) -> None:
        """`asked_at` is the loop's time. `abandon` is called where the answer is given up."""
        self._response = response
        self._content = response.content
        self._attempt = attempt
        self._patience = patience
        self._abandon = abandon
        self._loop = loop = asyncio.get_running_loop()
        self._silence_seconds = max(0.0, asked_at + patience.first_byte_seconds - loop.time())
        self._begun = False
        self._has_bytes = False
        self._whole = False
        self._closed = False
        self._timed_out: TimedOut | None = None
        self._fault: Fault | None = None
        # Only time in which we waited for the worker is its silence; a slow client's is not.
        self._waiting_since: float | None = None
        self._waited_seconds = 0.0
        self._timer = loop.call_later(self._silence_seconds, self._check)
        self._end_timer = loop.call_at(
            asked_at + patience.answer_seconds,
            self._time_out,
            TimedOut(Timeout.TOTAL, patience.answer_seconds),
        )
        attempt.give_up = self._give_up

    async def read(self) -> bytes:
        """What has arrived, or b"" at the end. Raises UpstreamFailed or TimedOut."""
        self._waiting_since = self._loop.time()
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            if self._timed_out is not None:
                raise self._timed_out from error
            self._fault = Fault.RESET
            raise UpstreamFailed("The connection to the model server broke.") from error
        finally:
            self._waited_seconds += self._loop.time() - self._waiting_since
            self._waiting_since = None
        if data:
            self._has_bytes = True
        elif not self._has_bytes:
            self._fault = Fault.RESET
        return data

    def heard(self) -> None:
        """It said something that counts: bytes alone, such as comments, do not."""
        self._waited_seconds = 0.0
        self._attempt.moved()

    def expect(self, silence_seconds: float) -> None:
        """It has begun: how long it may be silent from now on."""
        self._begun = True
        self._attempt.began()
        self._waited_seconds = 0.0
        self._silence_seconds = silence_seconds
        self._timer.cancel()
        self._timer = self._loop.call_later(silence_seconds, self._check)

    def broke(self) -> None:
        """It said that it failed, or left its answer without an end."""
        self._fault = Fault.ERROR

    def is_whole(self) -> None:
        """All has been said: however the connection ends, it has failed nobody."""
        self._whole = True

    def close(self) -> None:
        """Back to the pool where it was read to its end; else closed, so that the engine stops.
        Again, it does nothing."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._end_timer.cancel()
        self._attempt.give_up = None
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()
            if self._abandon is not None:
                self._abandon()
        if self._timed_out is not None:
            return  # told when it was
        if self._fault is not None and not self._whole:
            self._attempt.failed(self._fault)
        else:
            self._attempt.over()

    def _check(self) -> None:
        # One timer a stream, set anew only when it fires: reading must not pay for it.
        left = self._silence_seconds - self._waited_seconds
        if self._waiting_since is not None:
            left += self._waiting_since - self._loop.time()
        elif left <= 0:
            left = self._silence_seconds  # we do not wait: look again later
        if left <= 0:
            left = self._attempt.postponed_seconds()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        elif self._begun:
            self._time_out(TimedOut(Timeout.BETWEEN_TOKENS, self._silence_seconds))
        else:
            self._time_out(TimedOut(Timeout.FIRST_BYTE, self._patience.first_byte_seconds))

    def _give_up(self) -> None:
        self._time_out(TimedOut(Timeout.STANDSTILL))

    def _time_out(self, error: TimedOut) -> None:
        if self._timed_out is not None or self._closed:
            return
        self._timed_out = error
        self._response.close()
        self._attempt.timed_out(error.kind)
