"""A worker's running answer, read as it comes."""

import asyncio

import aiohttp

from app.errors import UpstreamFailed, UpstreamTimeout


class WorkerStream:
    """A worker's running answer. Closing it before its end makes the engine stop."""

    def __init__(self, response: aiohttp.ClientResponse, silence_seconds: float) -> None:
        self._response = response
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._silence_seconds = silence_seconds
        self._silent = False
        # Only time in which we waited for the worker is its silence; a slow client's is not.
        self._waiting_since: float | None = None
        self._waited_seconds = 0.0
        self._timer = self._loop.call_later(silence_seconds, self._check)

    async def read(self) -> bytes:
        """What has arrived, or b"" at the end. Raises UpstreamFailed or UpstreamTimeout."""
        self._waiting_since = self._loop.time()
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            if self._silent:
                raise UpstreamTimeout("The model server stopped answering.") from error
            raise UpstreamFailed("The connection to the model server broke.") from error
        finally:
            self._waited_seconds += self._loop.time() - self._waiting_since
            self._waiting_since = None
        return data

    def heard(self) -> None:
        """It said something that counts: bytes alone, such as comments, do not."""
        self._waited_seconds = 0.0

    def expect(self, silence_seconds: float) -> None:
        """How long it may be silent from now on."""
        self._waited_seconds = 0.0
        self._silence_seconds = silence_seconds
        self._timer.cancel()
        self._timer = self._loop.call_later(silence_seconds, self._check)

    def close(self) -> None:
        """Back to the pool where it was read to its end; else closed, so that the engine stops."""
        self._timer.cancel()
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def _check(self) -> None:
        # One timer a stream, set anew only when it fires: reading must not pay for it.
        left = self._silence_seconds - self._waited_seconds
        if self._waiting_since is not None:
            left += self._waiting_since - self._loop.time()
        elif left <= 0:
            left = self._silence_seconds  # we do not wait: look again later
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
            return
        self._silent = True
        self._response.close()
