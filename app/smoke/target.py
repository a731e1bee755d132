"""The server that is walked through: a gateway, or a bare inference server."""

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import orjson

from app.protocol.chunks import MalformedChunk, decode_chunk
from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    StreamFailed,
    TextDelta,
    ToolCallDelta,
)
from app.protocol.request import Json
from app.protocol.sse import DONE, SSEDecoder, SSEError
from app.smoke.answer import Answer
from app.smoke.failures import AskFailed, Kind
from app.smoke.patience import SILENCE_SECONDS
from app.smoke.progress import Running

CONNECT_SECONDS = 10.0  # on any network that an answer is worth waiting for on
LIST_SECONDS = 30.0  # for a list of models, from a server that may be busy
MAX_ERROR_BYTES = 64 * 1024  # of what a server says of its error; more is a page of HTML
MAX_LIST_BYTES = 4 * 1024 * 1024  # thousands of models
SHOWN_CHARACTERS = 300  # of an error: a few lines of a terminal
READ_BUFFER_BYTES = 256 * 1024  # of a stream; it is read as it comes

_SHOWN = (TextDelta, ReasoningDelta, ToolCallDelta)


def new_session() -> aiohttp.ClientSession:
    """Only connecting is bounded here; the rest by who knows the prompt's length."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        read_bufsize=READ_BUFFER_BYTES,
        cookie_jar=aiohttp.DummyCookieJar(),
        # No kept connection: vLLM closes them after 5 s, and a request would be lost on one.
        connector=aiohttp.TCPConnector(force_close=True),
    )


class Target:
    """`url` is without `/v1`. The key is in no text that leaves here."""

    def __init__(self, url: str, key: str | None, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._key = key
        self._session = session
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._loop = asyncio.get_running_loop()

    async def models(self) -> tuple[Json, str | None]:
        """What `/v1/models` says, and the id that the server gave the request. Raises AskFailed."""
        with self._failures(LIST_SECONDS):
            async with (
                asyncio.timeout(LIST_SECONDS),
                self._session.get(
                    f"{self.url}/v1/models", headers=self._headers, allow_redirects=False
                ) as response,
            ):
                await self._refuse_errors(response)
                body = await response.content.read(MAX_LIST_BYTES)
                while more := await response.content.read(MAX_LIST_BYTES):
                    body += more
                    if len(body) > MAX_LIST_BYTES:
                        raise AskFailed(Kind.MALFORMED, "/v1/models does not end")
        return _object(body), response.headers.get("x-request-id")

    async def ask(self, fields: Json, running: Running) -> Answer:
        """A streamed chat completion, to its end. Raises AskFailed; one that is cancelled closes
        its connection, which stops the server."""
        body = orjson.dumps(fields | {"stream": True, "stream_options": {"include_usage": True}})
        begun = self._loop.time()
        deadline = begun + running.limit_seconds
        with self._failures(running.limit_seconds):
            async with asyncio.timeout_at(deadline) as limit:
                async with self._session.post(
                    f"{self.url}/v1/chat/completions",
                    data=io.BytesIO(body),  # aiohttp warns of megabytes in one piece
                    headers=self._headers | {"content-type": "application/json"},
                    allow_redirects=False,
                ) as response:
                    await self._refuse_errors(response)
                    reading = _Reading(running, begun, self._loop)
                    while not reading.done and (data := await response.content.readany()):
                        reading.feed(data)
                        if reading.first_at is not None:
                            limit.reschedule(min(deadline, self._loop.time() + SILENCE_SECONDS))
                    return reading.answer(response)

    async def _refuse_errors(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            return
        if 300 <= response.status < 400:
            where = self._line(response.headers.get("location", "nowhere"))
            raise AskFailed(Kind.REFUSED, f"redirects to {where}", status=response.status)
        body = await response.content.read(MAX_ERROR_BYTES)
        message, code = _error_of(body)
        raise AskFailed(Kind.REFUSED, self._line(message), status=response.status, code=code)

    @contextmanager
    def _failures(self, limit_seconds: float) -> Iterator[None]:
        """Whatever can go wrong with a request, as AskFailed."""
        try:
            yield
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise AskFailed(Kind.UNREACHABLE, "no connection in time") from None
            words = f"not within {limit_seconds:.0f} s, or silent for {SILENCE_SECONDS:.0f} s"
            raise AskFailed(Kind.LATE, words) from None
        except aiohttp.ClientConnectorError as error:
            raise AskFailed(Kind.UNREACHABLE, self._line(str(error))) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise AskFailed(Kind.LOST, self._line(f"the connection broke: {error}")) from None
        except (SSEError, MalformedChunk) as error:
            raise AskFailed(Kind.MALFORMED, self._line(f"not a chunk: {error}")) from None
        except _InStream as error:
            said = error.failure
            raise AskFailed(Kind.FAILED, self._line(said.message), code=said.code) from None

    def _line(self, text: str) -> str:
        """One line of what a server said, which may have repeated the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return " ".join(text.split())[:SHOWN_CHARACTERS]


class _InStream(Exception):
    def __init__(self, failure: StreamFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Reading:
    """The bytes of a stream in, its answer out."""

    def __init__(self, running: Running, begun: float, loop: asyncio.AbstractEventLoop) -> None:
        self._running = running
        self._begun = begun
        self._loop = loop
        self._decoder = SSEDecoder()
        self._events: list[Event] = []
        self._last_at = begun  # of what was shown
        self.first_at: float | None = None
        self.done = False

    def feed(self, data: bytes) -> None:
        """Raises SSEError, MalformedChunk and _InStream."""
        for payload in self._decoder.feed(data):
            if payload == DONE:
                self.done = True
                return
            for event in decode_chunk(payload):
                self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, StreamFailed):
            raise _InStream(event)
        self._events.append(event)
        if isinstance(event, _SHOWN):
            self._last_at = self._loop.time()
            if self.first_at is None:
                self.first_at = self._last_at
            self._running.pieces += 1

    def answer(self, response: aiohttp.ClientResponse) -> Answer:
        if not any(isinstance(event, Finish) for event in self._events):
            raise AskFailed(Kind.LOST, "the stream ended without a finish_reason")
        last = self._loop.time() if self.first_at is None else self._last_at
        first = last if self.first_at is None else self.first_at
        return Answer(
            tuple(self._events), response.headers, first - self._begun, last - self._begun
        )


def _object(body: bytes) -> Json:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise AskFailed(Kind.MALFORMED, "/v1/models is no JSON object")
    return value


def _error_of(body: bytes) -> tuple[str, str | None]:
    """Message and code: OpenAI's object, a string, SGLang's flat form, FastAPI's detail, or the
    text itself."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace") or "no reason given", None
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return str(error), None
    message = error.get("message") or error.get("detail") or "no reason given"
    code = error.get("code")
    return str(message), None if code is None or isinstance(code, int) else str(code)
