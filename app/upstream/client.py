"""The HTTP client to the workers: raw bytes in, one error tree out."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, SimpleNamespace, TracebackType
from typing import Any, Self

import aiohttp
import orjson
import structlog
from aiohttp.payload import Payload
from aiohttp.typedefs import LooseHeaders

from app.errors import GatewayError
from app.protocol.request import Json
from app.settings import Settings
from app.upstream.abort import Aborts
from app.upstream.ejection import Fault
from app.upstream.endpoint import Endpoint
from app.upstream.refusals import ConnectFailed, refusal
from app.upstream.telemetry import MAX_PAGE_BYTES
from app.upstream.timeouts import TimedOut, Timeout
from app.upstream.watch import Attempt, Watch
from app.upstream.worker_stream import Patience, WorkerStream

log = structlog.get_logger()

READ_BUFFER_BYTES = 256 * 1024  # per stream, before the worker is slowed down
MAX_ERROR_BYTES = 64 * 1024  # of an error body, in which the context's length may be blamed
WRITE_CHUNK_BYTES = 256 * 1024  # a large prompt leaves in pieces, so that others get their turn
COUNT_SECONDS = 30.0  # vLLM tokenises a million tokens in about 4 s
NO_TRACE: Mapping[str, str] = MappingProxyType({})
MAX_CARD_BYTES = 1024 * 1024  # what a worker says of its models: some 500 bytes each


class _Body(Payload):
    """A request body in memory. aiohttp's own warns above 1 MiB that a write may hold up the
    loop; this one writes in pieces, and waits for the socket between them."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: Any) -> None:
        if self._size is not None and self._size <= WRITE_CHUNK_BYTES:
            await writer.write(self._value)
            return
        view = memoryview(self._value)
        for start in range(0, len(view), WRITE_CHUNK_BYTES):
            await writer.write(view[start : start + WRITE_CHUNK_BYTES])

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await self.write(writer)


@dataclass(slots=True)
class _ConnectionUsed:
    """`again`: the request went out on a connection that had served another one before."""

    again: bool = False


def _trace_reuse() -> aiohttp.TraceConfig:
    async def note(session: object, context: SimpleNamespace, parameters: object) -> None:
        if isinstance(used := context.trace_request_ctx, _ConnectionUsed):
            used.again = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(note)
    return trace


# What reading a field of somebody else's JSON can raise.
BAD_JSON = (AttributeError, LookupError, TypeError, ValueError)


class WorkerClient:
    """All connections to all workers, for the life of the process."""

    def __init__(self, settings: Settings, watch: Watch | None = None) -> None:
        """`watch` is told how the workers do."""
        self._settings = settings
        self._watch = watch
        count = _nobody_counts if watch is None else watch.aborted
        self._aborts = Aborts(self._abort, (aiohttp.ClientError, OSError), count)
        pooled = aiohttp.TCPConnector(limit=0, keepalive_timeout=settings.worker_idle_seconds)
        self._session = self._make_session(pooled)
        # For workers that close what they promised to keep, for a second try, and for probes.
        self._fresh = self._make_session(aiohttp.TCPConnector(limit=0, force_close=True))

    def _make_session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        """No limit on connections: the pool decides how much a worker gets."""
        return aiohttp.ClientSession(
            connector=connector,
            trace_configs=[_trace_reuse()],
            # Only connecting is bounded here; silence is bounded by who knows the prompt's length.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_seconds),
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            skip_auto_headers=("user-agent", "accept"),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._aborts.close()
        await self._session.close()
        await self._fresh.close()

    async def open(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        request_id: str,
        first_byte_seconds: float,
        rid: str | None = None,
        ours: bool = False,
        trace_headers: Mapping[str, str] = NO_TRACE,
    ) -> WorkerStream:
        """Asks for a completion and returns once the status line is there. The connection is one
        that was kept, if it may be and there is one. `rid` is in the body: given up, the engine is
        told to stop it. `ours`: a question of our own, which tells the watch nothing.
        `trace_headers` are of our own making, as all are.

        Raises UpstreamFailed (or a subclass) where the worker cannot be asked or refuses, and
        InvalidRequest where it finds the request at fault.
        """
        attempt = Attempt() if ours or self._watch is None else self._watch.attempt(endpoint)
        abandon = None if rid is None else partial(self._aborts.begin, endpoint, rid)
        patience = Patience(first_byte_seconds, self._settings.answer_seconds)
        asked_at = asyncio.get_running_loop().time()
        kept = endpoint.dialect.keeps_alive and not ours
        headers: LooseHeaders = {
            **endpoint.headers(),
            **trace_headers,
            "x-request-id": request_id,
        }
        try:
            response = await self._ask(endpoint, body, headers, patience, attempt, kept=kept)
        except BaseException as error:  # cancellation too: the worker may be reading the prompt
            unreachable = isinstance(error, ConnectFailed) and error.unreachable
            if abandon is not None and not unreachable:
                abandon()
            attempt.over()
            raise
        if response.status == 200:
            return WorkerStream(response, attempt, patience, asked_at, abandon)
        if response.status >= 500 and response.status != 503:
            attempt.failed(Fault.ERROR)
        else:
            attempt.over()
        raise await self._refusal(endpoint, response)

    async def _ask(
        self,
        endpoint: Endpoint,
        body: bytes,
        headers: LooseHeaders,
        patience: Patience,
        attempt: Attempt,
        *,
        kept: bool,
    ) -> aiohttp.ClientResponse:
        """The answer's head. Raises ConnectFailed and TimedOut, and has told of it."""
        url = f"{endpoint.url}/v1/chat/completions"
        try:
            async with asyncio.timeout(patience.first_byte_seconds) as deadline:
                attempt.give_up = _ender(deadline)
                return await self._post_completion(url, body, headers, kept=kept)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            attempt.failed(Fault.CONNECT)
            raise ConnectFailed(_cause(error), unreachable=True) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            attempt.failed(Fault.RESET)
            raise ConnectFailed(_cause(error)) from error
        except TimeoutError as error:
            kind = Timeout.STANDSTILL if attempt.given_up else Timeout.FIRST_BYTE
            attempt.timed_out(kind)
            raise TimedOut(kind, patience.first_byte_seconds) from error
        finally:
            attempt.give_up = None

    async def _refusal(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> GatewayError:
        """What an error status says, as ours. The connection is closed."""
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                detail = await response.content.read(MAX_ERROR_BYTES)
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            detail = b""
        finally:
            response.close()
        log.warning("worker_refused", worker=endpoint.name, status=response.status)
        return refusal(response.status, detail, endpoint.context_tokens)

    async def _post_completion(
        self, url: str, body: bytes, headers: LooseHeaders, *, kept: bool
    ) -> aiohttp.ClientResponse:
        """A kept connection may have been closed by the worker just now, which says nothing of
        the worker: then the request is sent again, on a connection of its own."""
        if kept:
            used = _ConnectionUsed()
            try:
                return await self._session.post(
                    url,
                    data=_Body(body),
                    headers=headers,
                    allow_redirects=False,
                    trace_request_ctx=used,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
                if not used.again:
                    raise
        return await self._fresh.post(url, data=_Body(body), headers=headers, allow_redirects=False)

    async def count_tokens(self, endpoint: Endpoint, fields: Json) -> int | None:
        """How many tokens the worker makes of this prompt, or None where it cannot say."""
        conversation = {
            name: fields[name] for name in ("messages", "tools") if fields.get(name) is not None
        }
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                if endpoint.dialect.chat_tokenize:
                    asked = {"model": endpoint.model, **conversation}
                    return int((await self._post(endpoint, "/tokenize", asked))["count"])
                if endpoint.dialect.template_tokenize:
                    rendered = await self._post(endpoint, "/apply-template", conversation)
                    asked = {"content": rendered["prompt"], "add_special": True}
                    return len((await self._post(endpoint, "/tokenize", asked))["tokens"])
        except (TimeoutError, aiohttp.ClientError, ConnectionError, *BAD_JSON):
            return None
        return None

    async def get(self, endpoint: Endpoint, path: str) -> Json:
        """A small JSON answer, for the prober. Raises aiohttp.ClientError or one of BAD_JSON."""
        return _object(await self._get(endpoint, path, MAX_CARD_BYTES))

    async def is_healthy(self, endpoint: Endpoint) -> None:
        """Returns if it says so. Raises aiohttp.ClientError."""
        await self._get(endpoint, "/health", MAX_CARD_BYTES)

    async def metrics_page(self, endpoint: Endpoint) -> bytes:
        """Raises aiohttp.ClientError, or ValueError where it is too long to be one."""
        return await self._get(endpoint, "/metrics", MAX_PAGE_BYTES)

    async def _get(self, endpoint: Endpoint, path: str, max_bytes: int) -> bytes:
        async with self._fresh.get(
            endpoint.url + path, headers=endpoint.headers(), allow_redirects=False
        ) as response:
            response.raise_for_status()
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > max_bytes:
                    raise ValueError(f"more than {max_bytes} bytes")
            return bytes(body)

    async def _abort(self, endpoint: Endpoint, rid: str) -> None:
        # On a connection of its own: a kept one may wait behind what is to be stopped.
        async with self._fresh.post(
            endpoint.url + "/abort_request",
            data=_Body(orjson.dumps({"rid": rid})),
            headers=endpoint.headers(),
            allow_redirects=False,
        ) as response:
            response.raise_for_status()

    async def _post(self, endpoint: Endpoint, path: str, value: Json) -> Json:
        async with self._session.post(
            endpoint.url + path,
            data=_Body(orjson.dumps(value)),
            headers=endpoint.headers(),
            allow_redirects=False,
        ) as response:
            response.raise_for_status()
            return _object(await response.read())


def _cause(error: Exception) -> str:
    """For the log. The system's words where it has some; a library's may quote what the worker
    sent."""
    cause = error.strerror if isinstance(error, OSError) else None
    return cause or type(error).__name__


def _nobody_counts(worker: str, outcome: str) -> None:
    """Without a watch."""


def _ender(deadline: asyncio.Timeout) -> Callable[[], None]:
    return lambda: deadline.reschedule(asyncio.get_running_loop().time())


def _object(body: bytes) -> Json:
    value = orjson.loads(body)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return value
