"""The production application behind the production server, in the test's own loop."""

import asyncio
import io
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from fastapi import FastAPI
from multidict import CIMultiDictProxy
from openai import AsyncOpenAI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.row import AuditRow
from app.audit.search import find_audit_record
from app.drain import Drain
from app.main import create_app
from app.serve import GatewayServer, bind
from app.settings import MIB, Settings, load_settings
from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.support.conditions import eventually_found
from tests.support.raw_client import RawClient, connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.sse_events import Stream, read_stream

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
PEPPER = "a-pepper-for-tests"
AUDIT_SECONDS = 60.0  # for a record to be written; only spent on failure
ANSWER_SECONDS = 60.0  # for an answer to end; only spent on failure
HELLO: list[Json] = [{"role": "user", "content": "Hello!"}]


@dataclass(frozen=True)
class Response:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Json:
        value: Json = json.loads(self.body)
        return value

    @property
    def error(self) -> Json:
        """What is in `error`, which has all four of OpenAI's fields and stands alone."""
        body = self.json
        assert set(body) == {"error"}, body
        error: Json = body["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str)
        assert error["message"]
        assert self.headers["content-type"] == "application/json"
        return error

    @property
    def message(self) -> Json:
        message: Json = self.json["choices"][0]["message"]
        return message

    @property
    def stream(self) -> Stream:
        assert self.status == 200, self.body
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        return read_stream(self.body)

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


@dataclass(frozen=True)
class GatewayClient:
    """Asks a gateway, in whatever process it runs, and issues its keys."""

    port: int
    key: str
    http: aiohttp.ClientSession
    keys: KeyStore

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """With the gateway's key, unless another is given."""
        sent = {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        async with asyncio.timeout(ANSWER_SECONDS):
            data = None if body is None else io.BytesIO(body)
            async with self.http.request(
                method, self.url + path, data=data, headers=sent
            ) as response:
                return Response(response.status, response.headers, await response.read())

    async def chat(self, *, key: str | None = None, **fields: Any) -> Response:
        """A completion of `qwythos` from one user message, with these fields instead or besides."""
        return await self.request("POST", CHAT, body=chat_body(**fields), key=key)

    async def stream(self, *, key: str | None = None, **fields: Any) -> Stream:
        """The same, streamed to its end."""
        return (await self.chat(key=key, stream=True, **fields)).stream

    async def issue_key(self, *, tenant: str = "acme", **policy: Any) -> str:
        """The secret of a new key."""
        draft = KeyDraft(name="another", tenant=tenant, policy=Policy(**policy))
        return (await self.keys.create(draft)).secret

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[RawClient]:
        async with connected(self.port) as client:
            yield client

    def sdk(self, *, key: str | None = None, max_retries: int = 0) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=key or self.key,
            max_retries=max_retries,
            timeout=ANSWER_SECONDS,
        )


@dataclass(frozen=True)
class RunningGateway(GatewayClient):
    """In this process."""

    key_id: str
    engine: AsyncEngine
    app: FastAPI

    @property
    def drain(self) -> Drain:
        drain: Drain = self.app.state.drain
        return drain

    async def audited(self, request_id: str) -> AuditRow:
        """The record of a request, once it has its outcome."""

        async def find() -> AuditRow | None:
            row = await find_audit_record(self.engine, request_id)
            return row if row is not None and row.outcome is not None else None

        return await eventually_found(find, AUDIT_SECONDS, f"an audit record of {request_id}")


async def new_key(engine: AsyncEngine) -> str:
    """The secret of one that any gateway with PEPPER on this database knows."""
    keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
    return (await keys.create(KeyDraft(name="test"))).secret


# `await start_gateway(worker, ..., setting=value)`
StartGateway = Callable[..., Awaitable[RunningGateway]]


def chat_body(**fields: Any) -> bytes:
    """JSON of a completion request; a field that is None is left out."""
    body = {"model": "qwythos", "messages": HELLO} | fields
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


@asynccontextmanager
async def running_gateway(
    database_url: str, scripted: list[ScriptedWorker], **settings: Any
) -> AsyncIterator[RunningGateway]:
    """On a free port, with a key; `settings` replace the defaults."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "key_pepper": PEPPER,
        "workers": [worker.settings() for worker in scripted],
        "port": 0,
        "audit_flush_seconds": 0.01,
        "audit_segment_bytes": MIB,
    }
    spool = tempfile.mkdtemp(prefix="qwythos-spool-")
    configured = load_settings(**({"audit_directory": spool} | values | settings))
    engine = create_engine(database_url)
    try:
        keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
        issued = await keys.create(KeyDraft(name="test", tenant="acme"))
        app = create_app(configured)
        async with _served(app, configured) as port, aiohttp.ClientSession() as http:
            yield RunningGateway(port, issued.secret, http, keys, issued.key.id, engine, app)
    finally:
        await engine.dispose()
        shutil.rmtree(spool, ignore_errors=True)


@asynccontextmanager
async def _served(app: FastAPI, settings: Settings) -> AsyncIterator[int]:
    """The server's own start, without its signals and its clock's tick of 0.1 s; yields the
    port."""
    server = GatewayServer(app, settings)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    listener = bind(settings)
    await server.startup([listener])
    await server.on_tick(0)
    try:
        yield listener.getsockname()[1]
    finally:
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.gather(*server.server_state.tasks)
            await server.lifespan.shutdown()
