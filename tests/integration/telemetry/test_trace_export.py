"""Spans on their way to a collector that is away, slow, or there again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_tracer_provider

from app.settings import SettingsError, load_settings
from app.telemetry import genai
from app.telemetry.spans import Span, SpanKind
from app.telemetry.trace_export import BATCH_SPANS, SPAN_CHARACTERS, SpanExport, load_sdk
from app.telemetry.trace_start import trace_sdk_of
from tests.support.collector import EXPORTED_SECONDS, Collector
from tests.support.conditions import eventually
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

QUEUE_SPANS = 512
# redis-py loads the SDK's metrics by itself, where it finds them.
OFF = """
import sys
import app.main
parts = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "requests")
loaded = [name for name in sys.modules if name.startswith(parts)]
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


def spans(count: int, **attributes: str) -> list[Span]:
    return [
        Span("x", SpanKind.SERVER, 1, number, None, False, "", 1, 2, attributes)
        for number in range(1, count + 1)
    ]


async def exported(gateway: RunningGateway, outcome: str) -> float:
    page = (await gateway.request("GET", "/metrics")).body.decode()
    name = f'gateway_trace_spans_total{{outcome="{outcome}"}} '
    (line,) = (line for line in page.splitlines() if line.startswith(name))
    return float(line.removeprefix(name))


async def test_a_collector_that_refuses_costs_spans_and_no_answer_and_is_told_once(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    collector: Collector,
    capfd: pytest.CaptureFixture[str],
) -> None:
    collector.status = 400
    gateway = await start_gateway(
        worker,
        otlp_endpoint=collector.url,
        otlp_headers="x-token=s3cret-of-it",
        trace_flush_seconds=0.05,
    )
    for asked in range(1, 4):
        assert (await gateway.chat()).status == 200
        await eventually(lambda n=asked: collector.asked >= n, EXPORTED_SECONDS, "another try")
    collector.status = 200
    assert (await gateway.chat()).status == 200
    await collector.request()
    assert collector.headers[0]["x-token"] == "s3cret-of-it"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    assert await exported(gateway, "failed") >= 3
    lines = capfd.readouterr().out
    assert lines.count("trace_export_failed") == 1
    assert "s3cret-of-it" not in lines
    assert "Failed to export" not in lines  # the library's own words, at each try


async def test_a_collector_that_hangs_holds_up_no_answer_and_not_the_end(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    collector.hangs = True
    gateway = await start_gateway(worker, otlp_endpoint=collector.url, trace_flush_seconds=0.05)
    assert (await gateway.chat()).status == 200
    await eventually(lambda: collector.asked == 1, EXPORTED_SECONDS, "an export that hangs")
    for _ in range(3):
        assert (await gateway.chat()).status == 200
    assert not collector.spans  # it hangs to this moment


async def test_a_queue_that_is_full_drops_spans_and_counts_them(collector: Collector) -> None:
    with hung_export(collector) as (export, counted):
        export.offer(spans(BATCH_SPANS))
        await eventually(lambda: collector.asked == 1, EXPORTED_SECONDS, "an export that hangs")
        for _ in range(6):
            export.offer(spans(100))
        assert counted == [("queue_full", 100)]
        collector.release()
        await eventually(
            lambda: len(collector.spans) >= BATCH_SPANS + 500, EXPORTED_SECONDS, "what was kept"
        )


async def test_content_fills_the_queue_by_its_size(collector: Collector) -> None:
    content = {genai.OUTPUT_MESSAGES: "x" * 100 * SPAN_CHARACTERS}
    with hung_export(collector) as (export, counted):
        export.offer(spans(2, **content))
        await eventually(lambda: collector.asked == 1, EXPORTED_SECONDS, "an export that hangs")
        for _ in range(6):
            export.offer(spans(1, **content))
        assert counted == [("queue_full", 1)]
        collector.release()
        await eventually(lambda: len(collector.spans) == 7, EXPORTED_SECONDS, "what was kept")
    assert len(collector.bodies) == 4  # never more than two in one


@contextmanager
def hung_export(collector: Collector) -> Iterator[tuple[SpanExport, list[tuple[str, int]]]]:
    """With a short queue, and what it counted of spans that were dropped."""
    collector.hangs = True
    counted: list[tuple[str, int]] = []

    def count(outcome: str, spans: int) -> None:
        if outcome == "queue_full":
            counted.append((outcome, spans))

    settings = load_settings(otlp_endpoint=collector.url, trace_queue_spans=QUEUE_SPANS)
    export = SpanExport(settings, load_sdk(), count, version="1")
    export.start()
    try:
        yield export, counted
    finally:
        collector.release()
        export.close()


async def test_the_framework_exports_nothing_by_itself_whatever_the_environment_says(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    gateway = await start_gateway(worker)
    assert (await gateway.request("GET", "/v1/models")).status == 200
    assert not isinstance(get_tracer_provider(), TracerProvider)


def test_the_sdk_is_not_loaded_where_there_is_no_collector() -> None:
    subprocess.run([sys.executable, "-c", OFF], check=True, timeout=60)


def test_without_the_sdk_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent: Any = None  # what makes Python say that there is no such module
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", absent)
    settings = load_settings(otlp_endpoint="http://collector:4318")
    with pytest.raises(SettingsError, match=r"pip install 'qwythos-gateway\[traces\]'"):
        trace_sdk_of(settings)
