"""An HTTP client that sends any bytes, and tells each piece of an answer as it arrives."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.http_connection import RESET_ON_CLOSE

READ_SECONDS = 60.0  # for anything that has to come; only spent on failure


@dataclass(frozen=True)
class Head:
    status: int
    headers: dict[str, str]  # names in lower case


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def post(self, path: str, key: str | None, value: Any) -> None:
        await self.send(request_bytes(path, key, json.dumps(value).encode()))

    async def head(self, within: float = READ_SECONDS) -> Head:
        async with asyncio.timeout(within):
            raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Head(int(first.split(" ")[1]), headers)

    async def chunk(self, within: float = READ_SECONDS) -> bytes:
        """The next piece of a chunked body; b"" at its end."""
        async with asyncio.timeout(within):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            return data

    async def chunks(self) -> list[bytes]:
        """All pieces that are left."""
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return pieces

    async def body(self, head: Head, within: float = READ_SECONDS) -> Any:
        """The JSON of a body with a length."""
        async with asyncio.timeout(within):
            return json.loads(await self._reader.readexactly(int(head.headers["content-length"])))

    async def at_end(self, within: float = READ_SECONDS) -> bool:
        """Whether the server closes now, without another byte."""
        async with asyncio.timeout(within):
            return await self._reader.read(1) == b""

    def shrink_window(self, size_bytes: int) -> None:
        """So that the server feels soon that nobody reads."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)

    def stop_reading(self) -> None:
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    def leave(self) -> None:
        """Closes, as a client does that has had enough."""
        self._writer.close()

    def reset(self) -> None:
        """As a client does that was killed."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._writer.transport.abort()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def request_bytes(
    path: str, key: str | None, body: bytes, *more: str, method: str = "POST"
) -> bytes:
    """`more` are header lines."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway", f"content-length: {len(body)}", *more]
    if not any(line.lower().startswith("content-type:") for line in more):
        lines.append("content-type: application/json")
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body
