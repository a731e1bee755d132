"""One connection to a scripted worker: just enough of HTTP/1.1, with the TCP below it in reach."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends a reset


@dataclass(frozen=True)
class HttpRequest:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order of arrival
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class HttpConnection(asyncio.Protocol):
    """`gone` is set as soon as the client closed or reset the connection."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._refused = False
        self._received = bytearray()
        self._news = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._refused:
            self.reset()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._news.set()

    def eof_received(self) -> None:
        self._left()

    def connection_lost(self, error: Exception | None) -> None:
        self._left()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _left(self) -> None:
        self.gone.set()
        self._news.set()
        self._may_write.set()

    # -- what a worker does with it

    async def request(self) -> HttpRequest | None:
        """The next request, or None once the client has closed."""
        head = await self._take_until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines if line)
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        length = int(dict(headers).get("content-length", "0"))
        body = await self._take(length)
        return None if body is None else HttpRequest(method, path, headers, body)

    async def write(self, data: bytes) -> None:
        """Returns once the socket has taken enough of it. Raises ConnectionResetError."""
        await self._may_write.wait()
        if self._transport is None or self.gone.is_set():
            raise ConnectionResetError
        self._transport.write(data)

    async def respond(
        self, status: int, body: bytes, content_type: str = "application/json"
    ) -> None:
        head = status_line(status, content_type) + b"content-length: %d\r\n\r\n" % len(body)
        await self.write(head + body)

    async def respond_json(self, value: Any, status: int = 200) -> None:
        await self.respond(status, json.dumps(value).encode())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        self._refused = True  # should it only be on its way
        if self._transport is not None and not self._transport.is_closing():
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()

    async def _take_until(self, mark: bytes) -> bytes | None:
        while (at := self._received.find(mark)) < 0:
            if not await self._more():
                return None
        return await self._take(at + len(mark))

    async def _take(self, size: int) -> bytes | None:
        while len(self._received) < size:
            if not await self._more():
                return None
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def _more(self) -> bool:
        if self.gone.is_set():
            return False
        self._news.clear()
        await self._news.wait()
        return True


def status_line(status: int, content_type: str) -> bytes:
    reason = HTTPStatus(status).phrase
    return (
        f"HTTP/1.1 {status} {reason}\r\nserver: uvicorn\r\ncontent-type: {content_type}\r\n"
    ).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
