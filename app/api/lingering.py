"""Closing a connection whose client is still sending.

A socket that is closed with unread bytes in it answers them with a reset, and a reset can overtake
the response: the client would see a broken connection instead of its 401 or 413. So our side is
shut first, and what still arrives is thrown away for a moment, as nginx does.
"""

import asyncio

LINGER_SECONDS = 2.0  # most clients notice at once
MAX_LINGER_BYTES = 4 * 1024 * 1024  # what is in flight on a fast link


class LingeringTransport:
    """Stands for the transport while a body is not read to its end."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._left_bytes = MAX_LINGER_BYTES

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.close)
        self._transport.write_eof()
        self._transport.resume_reading()

    def discards(self, data: bytes) -> bool:
        """Takes what arrives after `close()`; says whether it did."""
        if self._timer is None:
            return False
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.close()
        return True

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
