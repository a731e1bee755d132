"""A worker that says what a test tells it to, fails where it is told to, and remembers what it got.

It speaks vLLM 0.32's wire format (or SGLang's, or that of `transformers serve`), over sockets that
can be reset, and sees within milliseconds that its client has left.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from app.settings import MODEL_ID, Engine, Separation
from app.upstream.check import QUESTION, TOOL_QUESTION
from tests.support.answers import Answer, End, RawStream, Refusal, Reply, ToolCall
from tests.support.conditions import eventually
from tests.support.http_connection import (
    LAST_CHUNK,
    HttpConnection,
    HttpRequest,
    chunk,
    status_line,
)
from tests.support.wire_formats import CREATED, error_event, stream_payloads, whole_completion

RECEIVED_SECONDS = 60.0  # for hundreds of requests to come, too; only spent on failure
GARBAGE = b"data: {this is not JSON\n\n"


class ReceivedRequest:
    """One completion that a worker was asked for."""

    def __init__(self, request: HttpRequest, at: float) -> None:
        self.headers = request.headers
        self.json: dict[str, Any] = json.loads(request.body)
        self.received_at = at  # the loop's time
        self.closed_at: float | None = None  # when its client left before the end, if it did
        self.events_sent = 0
        self.completed = False

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class ScriptedWorker:
    """`async with ScriptedWorker() as worker`; then `worker.answers(...)`."""

    def __init__(
        self,
        engine: Engine = Engine.VLLM,
        *,
        separation: Separation = Separation.PARSER,
        api_key: str | None = None,
        model: str = MODEL_ID,
        max_model_len: int = 32_768,
        port: int = 0,
    ) -> None:
        self.engine = engine
        self.separation = separation
        self.api_key = api_key
        self.model = model
        self.max_model_len = max_model_len
        self.prompt_tokens = 7  # what `/tokenize` says of every prompt
        self.healthy = True
        self.lists_model = True
        self.splits = True  # as it declares; the gateway checks it before the first request
        self.check_replies: list[Reply] = []  # to the gateway's own questions, before its usual
        self.requests: list[ReceivedRequest] = []  # completions
        self.paths: list[str] = []  # of everything else that was asked
        self.aborted: list[str] = []  # ids that SGLang was told to stop
        self.started_at: float | None = None  # as its metrics say, if they do
        self.kv_usage: float | None = None  # likewise
        self.kv_tokens: int | None = None  # likewise: those that its cache holds
        self.has_metrics = True
        self.deaf = False  # it answers nothing but completions
        self.deaf_to_aborts = False
        self.checks: list[ReceivedRequest] = []  # the gateway's own questions
        self.connections = 0  # accepted since the start
        self._replies: list[Reply] = [Answer()]
        self._open: set[HttpConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = port

    async def __aenter__(self) -> "ScriptedWorker":
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()

    # -- what a test tells it

    def answers(self, *replies: Reply) -> None:
        """One after another; the last one again and again."""
        self._replies[:] = replies

    def takes_turns_with(self, other: "ScriptedWorker") -> None:
        """From now on both follow the answers of `other`, whoever is asked first."""
        self._replies = other._replies

    async def come_back(self) -> None:
        """Listens, on the same port as before."""
        self._server = await asyncio.get_running_loop().create_server(
            self._accept, "127.0.0.1", self._port
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def go_away(self) -> None:
        """Refuses connections, and resets those that there are, as a killed process does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._open:
            connection.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what a test asks it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def settings(self) -> dict[str, object]:
        """As one entry of the gateway's list of workers."""
        return {
            "url": self.url,
            "engine": self.engine,
            "separation": self.separation,
            "api_key": self.api_key,
        }

    @property
    def running(self) -> int:
        """`vllm:num_requests_running`: completions that are neither done nor given up."""
        return sum(not r.completed and r.closed_at is None for r in self.requests)

    @property
    def only(self) -> ReceivedRequest:
        (request,) = self.requests
        return request

    async def received(self, count: int = 1) -> ReceivedRequest:
        """The `count`-th completion asked for, as soon as it has come."""
        what = f"{count} requests at the worker"
        await eventually(lambda: len(self.requests) >= count, RECEIVED_SECONDS, what)
        return self.requests[count - 1]

    async def closed(self, request: ReceivedRequest, *, within: float) -> None:
        """Fails unless the client gives the request up within so many seconds."""
        await eventually(
            lambda: request.closed_at is not None or request.completed,
            within,
            "the gateway closed its request to the worker",
        )
        assert request.closed_at is not None, "the worker's answer came to its end"

    # -- serving

    def _accept(self) -> HttpConnection:
        connection = HttpConnection()
        if self._server is None:  # it came while the worker went away
            connection.reset()
            return connection
        self.connections += 1
        self._open.add(connection)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection

    async def _serve(self, connection: HttpConnection) -> None:
        with contextlib.suppress(ConnectionResetError):  # the gateway has left
            while (request := await connection.request()) is not None:
                if request.path == "/v1/chat/completions":
                    if not await self._complete(request, connection):
                        return
                else:
                    self.paths.append(request.path)
                    await self._small_route(request, connection)
        connection.close()
        self._open.discard(connection)

    def _reply_to(self, request: ReceivedRequest) -> Reply:
        """Notes the request, and what to say: the gateway's own questions take no test's answer."""
        question = request.json["messages"][-1]["content"]
        if question not in (QUESTION, TOOL_QUESTION):
            self.requests.append(request)
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        self.checks.append(request)
        if self.check_replies:
            return self.check_replies.pop(0)
        inline = (self.separation is Separation.INLINE) is self.splits
        if question == QUESTION:
            return Answer(("Four.",), ("Two and two.",), inline=inline)
        call = ToolCall("get_weather", ('{"city": "Paris"}',))
        return Answer((), ("The weather.",), (call,), "tool_calls", inline=inline)

    async def _small_route(self, request: HttpRequest, connection: HttpConnection) -> None:
        if self.deaf:
            await connection.gone.wait()
        match request.path:
            case "/health":
                await connection.respond(200 if self.healthy else 503, b"")
            case "/v1/models":
                cards = [self._model_card()] if self.lists_model else []
                await connection.respond_json({"object": "list", "data": cards})
            case "/tokenize":
                tokens = list(range(self.prompt_tokens))
                await connection.respond_json(
                    {"count": len(tokens), "max_model_len": self.max_model_len, "tokens": tokens}
                )
            case "/metrics" if self.has_metrics:
                await connection.respond(200, self._metrics().encode(), "text/plain")
            case "/abort_request":
                self.aborted.append(json.loads(request.body)["rid"])
                if self.deaf_to_aborts:
                    await connection.gone.wait()
                await connection.respond(200, b"")
            case _:
                await connection.respond_json({"detail": "Not Found"}, 404)

    def _metrics(self) -> str:
        values = {"num_requests_running": self.running, "num_requests_waiting": 0}
        labels = f'{{engine="0",model_name="{self.model}"}}'
        page = "".join(f"vllm:{name}{labels} {value}.0\n" for name, value in values.items())
        if self.kv_usage is not None:
            page += f"vllm:kv_cache_usage_perc{labels} {self.kv_usage}\n"
        if self.kv_tokens is not None:
            page += f'vllm:cache_config_info{{kv_cache_size_tokens="{self.kv_tokens}"}} 1.0\n'
        if self.started_at is not None:
            page += f"process_start_time_seconds {self.started_at}\n"
        return page

    def _model_card(self) -> dict[str, object]:
        return {
            "id": self.model,
            "object": "model",
            "created": CREATED,
            "owned_by": "vllm",
            "root": "/models/secret-path",
            "parent": None,
            "max_model_len": self.max_model_len,
            "permission": [],
        }

    async def _complete(self, http: HttpRequest, connection: HttpConnection) -> bool:
        """Whether the connection can carry another request."""
        loop = asyncio.get_running_loop()
        request = ReceivedRequest(http, loop.time())
        reply = self._reply_to(request)
        answering = loop.create_task(self._reply(reply, request, connection))
        leaving = loop.create_task(connection.gone.wait())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() or answering.exception() is not None:
                request.closed_at = loop.time()
                return False
            return answering.result()
        finally:
            answering.cancel()
            leaving.cancel()

    async def _reply(
        self, reply: Reply, request: ReceivedRequest, connection: HttpConnection
    ) -> bool:
        if isinstance(reply, Refusal):
            await connection.respond(reply.status, reply.body, reply.content_type)
        elif isinstance(reply, RawStream):
            head = status_line(200, "text/event-stream; charset=utf-8")
            await connection.write(head + b"connection: close\r\n\r\n" + reply.body)
            connection.close()
        elif request.json.get("stream") is True:
            return await self._stream(reply, request, connection)
        else:
            whole = whole_completion(reply, request.json, request.header("x-request-id") or "0")
            await connection.respond_json(whole)
        request.completed = True
        return not isinstance(reply, RawStream)

    async def _stream(
        self, answer: Answer, request: ReceivedRequest, connection: HttpConnection
    ) -> bool:
        stop = answer.breaks
        if stop is not None and stop.after is None:
            return await self._break_off(stop.how, connection)
        head = status_line(200, "text/event-stream; charset=utf-8")
        await connection.write(head + b"transfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(answer.prefill_seconds)
        if answer.until is not None and not answer.until_after:
            await answer.until.wait()
        async for events in self._paced(answer, request):
            size = answer.framing.write_bytes or len(events)
            for start in range(0, len(events), size):
                await connection.write(chunk(events[start : start + size]))
                if size < len(events):
                    await asyncio.sleep(0)  # each piece in a read of its own
        if stop is not None:
            await asyncio.sleep(answer.pace_seconds)
            return await self._break_off(stop.how, connection)
        # Marked first: the client may act on these bytes before we run again.
        request.completed = True
        done = self._frame("[DONE]", answer) if answer.framing.done else b""
        await connection.write((chunk(done) if done else b"") + LAST_CHUNK)
        return True

    async def _paced(self, answer: Answer, request: ReceivedRequest) -> AsyncIterator[bytes]:
        """The events up to the break, each or all at once."""
        request_id = request.header("x-request-id") or "0"
        payloads = stream_payloads(answer, request.json, self.engine, request_id)
        if answer.breaks is not None:
            payloads = payloads[: answer.breaks.after]
        frames = [self._frame(payload, answer) for payload in payloads]
        if answer.framing.at_once and frames:
            request.events_sent = len(frames)
            yield b"".join(frames)
            return
        for frame in frames:
            if request.events_sent and answer.pace_seconds:
                await asyncio.sleep(answer.pace_seconds)
            if answer.until is not None and request.events_sent == answer.until_after:
                await answer.until.wait()
            request.events_sent += 1
            yield frame

    def _frame(self, payload: str, answer: Answer) -> bytes:
        end = answer.framing.line_end
        comment = b": keep-alive" + end + end if answer.framing.comments else b""
        return comment + b"data: " + payload.encode() + end + end

    async def _break_off(self, how: End, connection: HttpConnection) -> bool:
        match how:
            case End.RESET:
                connection.reset()
            case End.CLOSE:
                # Orderly as HTTP has it, too: only the finish reason is missing.
                await connection.write(LAST_CHUNK)
                connection.close()
            case End.ERROR:
                events = f"data: {error_event(self.engine)}\n\ndata: [DONE]\n\n"
                await connection.write(chunk(events.encode()) + LAST_CHUNK)
                return True
            case End.GARBAGE:
                await connection.write(chunk(GARBAGE))
                await asyncio.Event().wait()
            case End.HANG:
                await asyncio.Event().wait()
        return False
