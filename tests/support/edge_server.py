"""The HTTP edge on a real socket, before an application that shows what reached it.

Raw bytes in, raw bytes out: no HTTP library would send what these tests have to send.
"""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import uvloop
from starlette.types import Message, Receive, Scope, Send

from app.api.http_protocol import make_protocol
from app.settings import Settings

WAIT_SECONDS = 60.0  # for what has to come; only spent on failure
EVENT_BYTES = 64 * 1024


class ShowingApp:
    """`/early` answers 401 without reading, `/stream` sends two events and waits for `release`
    between them, `/flood` writes without end, `/deaf` reads only after `release`; every other path
    answers with the request's method, path, headers and the length of its body."""

    def __init__(self) -> None:
        self.served: list[str] = []  # paths that reached the application
        self.left: list[str] = []  # whose client was gone
        self.flooded_bytes = 0
        self.release = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.served.append(path)
        if path == "/early":
            await respond(send, 401, b"{}")
            return
        if path == "/deaf":
            await self.release.wait()
        size = await self._read(receive, path)
        if size is None:
            return
        if path == "/stream":
            await self._stream(send)
        elif path == "/flood":
            await self._flood(receive, send)
        else:
            headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
            seen = {"method": scope["method"], "path": path, "headers": headers, "size": size}
            await respond(send, 200, json.dumps(seen).encode())

    async def _read(self, receive: Receive, path: str) -> int | None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(path)
                return None
            size += len(message["body"])
            more = message["more_body"]
        return size

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(part(b"data: 1\n\n"))
        await self.release.wait()
        await send(part(b"data: 2\n\n"))
        await send({"type": "http.response.body", "body": b""})

    async def _flood(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send(part(b"x" * EVENT_BYTES))
            self.flooded_bytes += EVENT_BYTES
            await asyncio.sleep(0)
        self.left.append("/flood")


def part(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def respond(send: Send, status: int, body: bytes) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Edge:
    port: int
    app: ShowingApp
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop
    settings: Settings = field(repr=False)

    def connect(self, *, receive_buffer_bytes: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer_bytes is not None:  # counts only before the connection is made
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        client.settimeout(WAIT_SECONDS)
        client.connect(("127.0.0.1", self.port))
        return client

    def ask(self, *parts: bytes) -> bytes:
        """Sends the parts and reads until the server closes. Fails where it does not."""
        with self.connect() as client:
            for data in parts:
                try:
                    client.sendall(data)
                except ConnectionError:
                    break  # it was refused before the end
            return read_to_end(client)

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self.app.release.set)


def read_to_end(client: socket.socket) -> bytes:
    """All that comes. A reset is an error: it may have taken an answer with it."""
    answer = bytearray()
    while data := client.recv(65536):
        answer += data
    return bytes(answer)


def read_response(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    """One response with a length, from a connection that stays open."""
    raw = bytearray()
    while b"\r\n\r\n" not in raw:
        raw += received(client)
    head, _, body = bytes(raw).partition(b"\r\n\r\n")
    status, headers = parse_head(head)
    while len(body) < int(headers["content-length"]):
        body += received(client)
    return status, headers, json.loads(body)


def received(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise AssertionError("the server closed the connection")
    return data


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def assert_refused(answer: bytes, status: int) -> None:
    """One response, in OpenAI's shape, that ends the connection."""
    assert statuses(answer) == [status], answer[:400]
    head, _, body = answer.partition(b"\r\n\r\n")
    _, headers = parse_head(head)
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    assert headers["x-request-id"].startswith("req_")
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"]


@contextmanager
def edge(**settings: object) -> Iterator[Edge]:
    """A server with these settings in a thread, on the production's event loop."""
    chosen = Settings(**settings)  # type: ignore[arg-type]  # pydantic checks
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    started = threading.Event()
    parts: list[Edge] = []

    async def main() -> None:
        app = ShowingApp()
        config = uvicorn.Config(
            app,
            http=make_protocol(chosen),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=round(chosen.keep_alive_seconds),
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        port = listener.getsockname()[1]
        parts.append(Edge(port, app, server, asyncio.get_running_loop(), chosen))
        started.set()
        await server.serve(sockets=[listener])

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(WAIT_SECONDS)
    try:
        yield parts[0]
    finally:
        parts[0].release()
        parts[0].server.should_exit = True
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
