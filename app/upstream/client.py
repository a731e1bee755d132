"""The HTTP client to the workers: raw bytes in, one error tree out."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import aiohttp
import orjson
import structlog
from aiohttp.payload import Payload
from aiohttp.typedefs import LooseHeaders

from app.errors import UpstreamTimeout
from app.protocol.request import Json
from app.settings import Settings
from app.upstream.endpoint import Endpoint
from app.upstream.refusals import ConnectFailed, refusal
from app.upstream.worker_stream import WorkerStream

log = structlog.get_logger()

READ_BUFFER_BYTES = 256 * 1024  # per stream, before the worker is slowed down
MAX_ERROR_BYTES = 64 * 1024  # of an error body, in which the context's length may be blamed
WRITE_CHUNK_BYTES = 256 * 1024  # a large prompt leaves in pieces, so that others get their turn
COUNT_SECONDS = 30.0  # vLLM tokenises a million tokens in about 4 s


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

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
        await self._session.close()
        await self._fresh.close()

    async def open(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        request_id: str,
        first_byte_seconds: float,
        kept: bool = True,
    ) -> WorkerStream:
        """Asks for a completion and returns once the status line is there. The connection is one
        that was kept, if it may be and there is one.

        Raises UpstreamFailed (or a subclass) where the worker cannot be asked or refuses, and
        InvalidRequest where it finds the request at fault.
        """
        headers: LooseHeaders = {**endpoint.headers(), "x-request-id": request_id}
        url = f"{endpoint.url}/v1/chat/completions"
        try:
            async with asyncio.timeout(first_byte_seconds):
                kept = kept and endpoint.dialect.keeps_alive
                response = await self._post_completion(url, body, headers, kept=kept)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ConnectFailed(str(error), unreachable=True) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ConnectFailed(str(error)) from error
        except TimeoutError as error:
            raise UpstreamTimeout("The model server did not answer in time.") from error
        if response.status == 200:
            return WorkerStream(response, first_byte_seconds)
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                detail = await response.content.read(MAX_ERROR_BYTES)
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            detail = b""
        finally:
            response.close()
        log.warning("worker_refused", worker=endpoint.name, status=response.status)
        raise refusal(response.status, detail, endpoint.context_tokens)

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
        async with self._fresh.get(
            endpoint.url + path, headers=endpoint.headers(), allow_redirects=False
        ) as response:
            response.raise_for_status()
            body = await response.read()
            return {} if path == "/health" else _object(body)

    async def _post(self, endpoint: Endpoint, path: str, value: Json) -> Json:
        async with self._session.post(
            endpoint.url + path,
            data=_Body(orjson.dumps(value)),
            headers=endpoint.headers(),
            allow_redirects=False,
        ) as response:
            response.raise_for_status()
            return _object(await response.read())


def _object(body: bytes) -> Json:
    value = orjson.loads(body)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return value
