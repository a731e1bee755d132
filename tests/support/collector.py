"""A collector of traces: it takes OTLP over HTTP as the protocol has it, and keeps what it got."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from tests.support.conditions import eventually

EXPORTED_SECONDS = 60.0  # for a span to come; only spent on failure


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    kind: str  # as the protocol names it: SERVER, CLIENT, INTERNAL
    trace_id: str
    span_id: str
    parent_id: str  # empty: none
    state: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    failed: bool
    links: tuple[str, ...]  # ids of spans
    resource: Mapping[str, Any]


class Collector:
    """`async with Collector() as collector`."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []  # of what it took
        self.headers: list[Mapping[str, str]] = []
        self.spans: list[ReceivedSpan] = []
        self.asked = 0  # posts, taken or not
        self.status = 200
        self.hangs = False
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> "Collector":
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        assert self._runner is not None
        await self._runner.cleanup()

    def release(self) -> None:
        """What hangs goes on."""
        self.hangs = False
        self._released.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def of_kind(self, kind: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.kind == kind]

    async def requests(self, count: int = 1) -> list[ReceivedSpan]:
        """The spans of whole requests, as soon as there are so many."""
        await eventually(
            lambda: len(self.of_kind("SERVER")) >= count,
            EXPORTED_SECONDS,
            f"{count} requests at the collector",
        )
        return self.of_kind("SERVER")

    async def request(self) -> ReceivedSpan:
        """The only one."""
        (span,) = await self.requests()
        return span

    def below(self, span: ReceivedSpan) -> list[ReceivedSpan]:
        """In the order of their beginning."""
        children = [each for each in self.spans if each.parent_id == span.span_id]
        return sorted(children, key=lambda each: each.started_ns)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked += 1  # whoever waits for it may change at once what the next one is answered
        if self.hangs:
            await self._released.wait()
        if self.status != 200:
            return web.Response(status=self.status)
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        export = ExportTraceServiceRequest.FromString(body)
        for of_resource in export.resource_spans:
            resource = _attributes(of_resource.resource)
            for scope in of_resource.scope_spans:
                self.spans += [_read(span, resource) for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


def _read(span: WireSpan, resource: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=_attributes(span),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        links=tuple(link.span_id.hex() for link in span.links),
        resource=resource,
    )


def _attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in holder.attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind or "string_value")
