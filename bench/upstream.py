"""The instant worker: a process that answers as vLLM does, as fast as a socket takes it.

`python -m bench.upstream` prints its port on a line, and serves until its input is closed.
"""

import asyncio
import os
import sys
from typing import cast

import httptools
import orjson
import uvloop

from bench.scenarios import MODEL, SCENARIOS, Scenario, scenario_of
from bench.wire import answer_writes

CONTEXT_TOKENS = 1_010_000
COUNTED_TOKENS = 900_000  # what `/tokenize` says of any prompt: it is only asked about long ones
KEPT_BODY_BYTES = 64 * 1024  # a prompt's beginning names the scenario; the rest is dropped
ANSWERS = {scenario: answer_writes(scenario) for scenario in SCENARIOS.values()}


def _whole(status: bytes, kind: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nserver: uvicorn\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        kind,
        len(body),
        body,
    )


_JSON = b"application/json"
_CARD = {"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": CONTEXT_TOKENS}
_COUNT = {"count": COUNTED_TOKENS, "max_model_len": CONTEXT_TOKENS, "tokens": []}
NOT_FOUND = _whole(b"404 Not Found", _JSON, b'{"detail":"Not Found"}')
WHOLE_ANSWERS = {
    b"/health": _whole(b"200 OK", b"text/plain", b""),
    b"/v1/models": _whole(b"200 OK", _JSON, orjson.dumps({"object": "list", "data": [_CARD]})),
    b"/tokenize": _whole(b"200 OK", _JSON, orjson.dumps(_COUNT)),
    b"/metrics": _whole(b"200 OK", b"text/plain", b"vllm:num_requests_running 0.0\n"),
}


class Worker(asyncio.Protocol):
    """One connection of a client; it asks one thing at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._kept_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._descriptor: int = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._path, self._body, self._kept_bytes = b"", [], 0

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, data: bytes) -> None:
        if self._kept_bytes < KEPT_BODY_BYTES:
            self._body.append(data)
            self._kept_bytes += len(data)

    def on_message_complete(self) -> None:
        if self._path != b"/v1/chat/completions":
            self._transport.write(WHOLE_ANSWERS.get(self._path, NOT_FOUND))
            return
        scenario = scenario_of(b"".join(self._body))
        if scenario is None:  # the gateway's own question: does the worker split the thought off?
            self._answer_at_once(ANSWERS[SCENARIOS["unary"]])
        elif scenario.pace_seconds:
            self._answer_paced(scenario, ANSWERS[scenario], 0, self._loop.time())
        else:
            self._answer_at_once(ANSWERS[scenario])

    def _answer_at_once(self, writes: list[bytes]) -> None:
        """Each with a system call of its own, as an engine's steps are; uvloop would join them."""
        for at, data in enumerate(writes[:-1]):
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):  # the client reads slowly: the loop sends the rest
                self._transport.write(b"".join([data[sent:], *writes[at + 1 :]]))
                return
        self._transport.write(writes[-1])

    def _answer_paced(self, scenario: Scenario, writes: list[bytes], at: int, due: float) -> None:
        """The write at `at`, and a timer for the next one: by the clock, so that none drifts."""
        if self._transport.is_closing():
            return
        self._transport.write(writes[at])
        if at + 1 < len(writes):
            due += scenario.pace_seconds
            self._timer = self._loop.call_at(due, self._answer_paced, scenario, writes, at + 1, due)


async def serve() -> None:
    """Prints the port; ends with the input."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Worker, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
