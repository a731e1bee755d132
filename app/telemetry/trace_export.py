"""Spans on their way to a collector, in a thread of its own.

No request waits for it: what the collector does not take in time is dropped, counted, and told once
in the log. The SDK encodes and sends; it is an extra, and loaded only where there is a collector.
"""

import importlib
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from app.settings import Settings, SettingsError
from app.settings.trace import parse_headers
from app.telemetry import genai
from app.telemetry.spans import Span, SpanKind

# Encoding a span takes some 50 us, during which the event loop may have to wait for the
# interpreter: few at a time, so that the loop gets it back soon.
BATCH_SPANS = 128
# What one takes in memory. Prompts and answers take up to 60 times as much: a queue of them would
# be a gigabyte, and a batch more than collectors take at once (20 MiB).
SPAN_CHARACTERS = 2_048
# For one batch, with the tries that the SDK makes; meanwhile the queue fills.
EXPORT_SECONDS = 10.0
# At the end of the process, for what still waits: a collector that hangs must not hold up a drain.
CLOSE_SECONDS = 3.0

SERVICE_NAME = "qwythos-gateway"

SpanCounts = Callable[[str, int], None]  # an outcome (exported, queue_full, failed), and spans

# What it has to say, we say once, and without a header.
_SDK_LOGGERS = ("opentelemetry", "urllib3", "requests")

log = structlog.get_logger()


def load_sdk() -> "Sdk":
    """Raises SettingsError, which says what to install."""
    try:
        return Sdk()
    except ModuleNotFoundError:
        raise SettingsError(
            "GATEWAY_OTLP_ENDPOINT: traces need OpenTelemetry's SDK: "
            "pip install 'qwythos-gateway[traces]'"
        ) from None


class Sdk:
    """The parts of it that are used. Typed as what it is here: an optional package."""

    def __init__(self) -> None:
        """Raises ModuleNotFoundError."""
        self._trace: Any = importlib.import_module("opentelemetry.trace")
        self._sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        self._resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        self._scope: Any = importlib.import_module("opentelemetry.sdk.util.instrumentation")
        self._export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        self._otlp: Any = importlib.import_module(
            "opentelemetry.exporter.otlp.proto.http.trace_exporter"
        )
        self._requests: Any = importlib.import_module("requests")

    def exporter(self, url: str, headers: Mapping[str, str]) -> Any:
        # Proxies and .netrc of whoever started the process are not meant for a collector.
        session = self._requests.Session()
        session.trust_env = False
        return self._otlp.OTLPSpanExporter(
            endpoint=url, headers=dict(headers), timeout=EXPORT_SECONDS, session=session
        )

    def succeeded(self, result: Any) -> bool:
        return bool(result is self._export.SpanExportResult.SUCCESS)

    def resource(self, version: str) -> Any:
        """With what `OTEL_RESOURCE_ATTRIBUTES` says, which is the SDK's to read."""
        return self._resources.Resource.create(
            {
                "service.name": SERVICE_NAME,
                "service.version": version,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            },
            genai.SCHEMA_URL,
        )

    def scope(self, version: str) -> Any:
        return self._scope.InstrumentationScope(SERVICE_NAME, version, genai.SCHEMA_URL)

    def span(self, span: Span, resource: Any, scope: Any) -> Any:
        """A span of ours, which has ended, as one of the SDK's."""
        kinds = self._trace.SpanKind
        failed = self._trace.StatusCode.ERROR, span.error
        return self._sdk.ReadableSpan(
            name=span.name,
            context=self._context(span.trace_id, span.span_id, span.state),
            parent=self._parent(span),
            resource=resource,
            attributes=span.attributes,
            links=[self._trace.Link(self._context(*link)) for link in span.links],
            kind={
                SpanKind.SERVER: kinds.SERVER,
                SpanKind.CLIENT: kinds.CLIENT,
                SpanKind.INTERNAL: kinds.INTERNAL,
            }[span.kind],
            status=self._trace.Status(*failed) if span.error else self._trace.Status(),
            start_time=span.started_ns,
            end_time=span.ended_ns,
            instrumentation_scope=scope,
        )

    def _parent(self, span: Span) -> Any:
        if span.parent_id is None:
            return None
        return self._context(span.trace_id, span.parent_id, span.state, remote=span.remote_parent)

    def _context(
        self, trace_id: int, span_id: int, state: str = "", *, remote: bool = False
    ) -> Any:
        states = self._trace.TraceState.from_header([state]) if state else None
        flags = self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED)
        return self._trace.SpanContext(trace_id, span_id, remote, flags, states)


class SpanExport:
    """Implements SpanSink. `start`, then `close`; both once."""

    def __init__(self, settings: Settings, sdk: Sdk, counts: SpanCounts, *, version: str) -> None:
        url, headers = settings.traces_url, settings.otlp_headers
        assert url is not None  # noqa: S101 - narrows; without a collector nobody makes one
        self._sdk = sdk
        self._counts = counts
        self._max_spans = settings.trace_queue_spans
        self._every_seconds = settings.trace_flush_seconds
        self._resource = sdk.resource(version)
        self._scope = sdk.scope(version)
        self._exporter = sdk.exporter(url, {} if headers is None else parse_headers(headers))
        self._spans: deque[Span] = deque()
        # Weights, each counted by one thread alone: who offers, and who sends.
        self._offered = 0
        self._taken = 0
        self._wake = threading.Event()
        self._closing = False
        self._away = False  # the collector; changes are told
        self._full = False  # the queue
        # It may hang in a connection; the process does not wait for it.
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)

    def start(self) -> None:
        for name in _SDK_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._thread.start()

    def offer(self, spans: Sequence[Span]) -> None:
        """From one thread alone, that of the event loop."""
        waiting = self._waiting
        more = sum(map(_weight, spans))
        if waiting + more > self._max_spans:
            self._counts("queue_full", len(spans))
            if not self._full:
                self._full = True
                log.warning("trace_queue_full", spans=len(self._spans))
            return
        self._offered += more
        self._spans.extend(spans)
        if waiting + more >= BATCH_SPANS:
            self._wake.set()

    @property
    def _waiting(self) -> int:
        return self._offered - self._taken

    def close(self) -> None:
        """Blocks for CLOSE_SECONDS at most."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        self._exporter.shutdown()  # it waits no longer between its tries, and makes no more

    # -- in the thread

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._every_seconds)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._spans:
            self._send(self._next_batch())

    def _next_batch(self) -> list[Span]:
        batch: list[Span] = []
        weight = 0
        while self._spans and weight < BATCH_SPANS:
            batch.append(self._spans.popleft())
            weight += _weight(batch[-1])
        self._taken += weight
        return batch

    def _send(self, batch: list[Span]) -> None:
        sent = False
        try:
            spans = [self._sdk.span(span, self._resource, self._scope) for span in batch]
            sent = self._sdk.succeeded(self._exporter.export(spans))
        except Exception as error:  # noqa: BLE001 - of a library; the thread has to go on
            log.error("trace_export_defect", error=type(error).__name__)
        self._counts("exported" if sent else "failed", len(batch))
        if sent is self._away:
            self._away = not sent
            if sent:
                log.info("trace_export_recovered")
            else:
                log.warning("trace_export_failed", spans=len(batch))
        if sent and self._waiting < self._max_spans // 2:
            self._full = False


def _weight(span: Span) -> int:
    """As how many spans without content it counts."""
    content = (span.attributes.get(name) for name in genai.CONTENT)
    return 1 + sum(len(text) for text in content if isinstance(text, str)) // SPAN_CHARACTERS
