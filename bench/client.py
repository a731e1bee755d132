"""A keep-alive connection to what is measured: one request at a time, bytes as they come."""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import httptools

ANSWER_SECONDS = 30.0  # after this an answer counts as missing


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    first_byte_seconds: float  # of the body, since the request was written
    seconds: float  # to its end


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []
        self._asked_at = 0.0
        self._first_byte_at = 0.0
        self.closed = False

    async def ask(self, request: bytes) -> Answer:
        """Raises ConnectionError where the answer breaks off, TimeoutError where none comes."""
        self._body, self._first_byte_at = [], 0.0
        self._answered = self._loop.create_future()
        self._asked_at = time.monotonic()
        self._transport.write(request)
        timer = self._loop.call_later(ANSWER_SECONDS, self._fail, TimeoutError("no whole answer"))
        try:
            return await self._answered
        finally:
            timer.cancel()

    def close(self) -> None:
        self._transport.close()

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not an HTTP answer: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._fail(ConnectionError("the connection was closed before the answer's end"))

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
            self._transport.abort()

    # -- called by the parser

    def on_body(self, data: bytes) -> None:
        if not self._body:
            self._first_byte_at = time.monotonic()
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._answered is None or self._answered.done():
            return
        now = time.monotonic()
        status: int = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self._transport.close()
            self.closed = True
        first = (self._first_byte_at or now) - self._asked_at
        self._answered.set_result(Answer(status, b"".join(self._body), first, now - self._asked_at))
