"""The completion routes as raw ASGI endpoints, for speed and for the order of things.

FastAPI would parse the body before it looked at a header; here nothing of it is read for a caller
whom we do not know.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.api.answers import (
    JSON_HEADERS,
    FoldedAnswer,
    StreamedAnswer,
    rhythm_of,
    send_whole,
)
from app.api.body import read_body
from app.api.call import bearer, caller_of
from app.api.rate_limit_headers import rate_limit_headers
from app.api.request_headers import (
    affinity_hint,
    max_cold_prefill_tokens,
    trace_headers,
    wants_progress,
)
from app.api.surface import Surface
from app.errors import ClientDisconnected, GatewayError
from app.gateway.meter import SHUTTING_DOWN
from app.gateway.pipeline import Gateway, complete
from app.limits.subjects import Standing
from app.protocol.encode import SECOND_THOUGHT_NAME, THOUGHT_NAME
from app.protocol.request import ChatRequest
from app.store.policy import Policy
from app.telemetry.trace_context import TraceHeaders


class Completions:
    """One completion route as an ASGI application."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope["app"].state.gateway
        await complete(CompletionCall(scope, receive, send, self._surface, gateway), gateway)


class CompletionCall:
    """One HTTP request, as the pipeline sees it."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, surface: Surface, gateway: Gateway
    ) -> None:
        self._headers = Headers(scope=scope)
        self._receive = receive
        self._send = send
        self._surface = surface
        self._gateway = gateway
        self._answer: StreamedAnswer | FoldedAnswer | None = None
        self.caller = caller_of(scope, self._headers, gateway.clock(), route=surface.route)

    def trace_headers(self) -> TraceHeaders:
        return trace_headers(self._headers)

    def credential(self) -> str:
        return bearer(self._headers)

    async def read(self) -> ChatRequest:
        settings = self._gateway.settings
        cold_tokens = max_cold_prefill_tokens(self._headers)
        body = await read_body(self._headers, self._receive, settings.max_body_bytes)
        request = self._surface.parse(body, settings)
        hint = affinity_hint(self._headers, request.affinity_hint)
        if cold_tokens is None and hint == request.affinity_hint:
            return request
        return replace(request, max_cold_prefill_tokens=cold_tokens, affinity_hint=hint)

    @asynccontextmanager
    async def watch(self, left: Callable[[GatewayError], None]) -> AsyncIterator[None]:
        """The body was read, so the next message can only be the client's leaving. Nothing else
        would tell: a handler that does not stream is not cancelled by the server."""
        task = asyncio.get_running_loop().create_task(self._wait_until_gone(left))
        try:
            yield
        finally:
            task.cancel()

    async def _wait_until_gone(self, left: Callable[[GatewayError], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        left(ClientDisconnected("The client left before its answer was whole."))

    def answer(self, request: ChatRequest, policy: Policy) -> StreamedAnswer | FoldedAnswer:
        surface = self._surface
        names = (THOUGHT_NAME, SECOND_THOUGHT_NAME)[: 2 if policy.reasoning_content else 1]
        completion_id = surface.id_prefix + self.caller.request_id.removeprefix("req_")
        completion = (completion_id, int(self.caller.received_at), request.model)
        if request.stream:
            self._answer = StreamedAnswer(
                self._send,
                surface.encoder(
                    *completion,
                    n=request.n,
                    include_usage=request.include_usage,
                    thought_names=names,
                ),
                rhythm=rhythm_of(self._gateway.settings, self.caller.patience_seconds),
                progress=wants_progress(self._headers),
                metrics=self._gateway.metrics,
                loop=asyncio.get_running_loop(),
            )
        else:
            self._answer = FoldedAnswer(self._send, surface.folder(request.n, names), completion)
        return self._answer

    async def fail(self, error: GatewayError, standing: Standing) -> None:
        if isinstance(error, ClientDisconnected):
            return
        if self._answer is not None and self._answer.committed:
            await self._answer.fail(error)
            return
        headers = JSON_HEADERS + error.headers() + rate_limit_headers(standing)
        if error.code == SHUTTING_DOWN:
            # Nothing of an answer has left: whatever stands in front may ask another replica.
            headers = [*headers, (b"connection", b"close"), (b"x-gateway-draining", b"true")]
        await send_whole(self._send, error.status, headers, orjson.dumps(error.body()))
