"""Traces as the settings have them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.settings import Settings, SettingsError
from app.telemetry.trace_export import Sdk, SpanCounts, SpanExport, load_sdk
from app.telemetry.traces import NoTraces, Traces


def trace_sdk_of(settings: Settings) -> Sdk | None:
    """None where there are no traces. Raises SettingsError."""
    if settings.otlp_endpoint is None:
        return None
    if settings.trace_content and settings.audit_redaction is not None:
        raise SettingsError(
            "GATEWAY_TRACE_CONTENT: would write down what GATEWAY_AUDIT_REDACTION masks; unset one "
            "of them"
        )
    return load_sdk()


@asynccontextmanager
async def tracing(
    settings: Settings, sdk: Sdk | None, counts: SpanCounts, *, version: str
) -> AsyncIterator[NoTraces]:
    """At its end, what is still to be sent is sent."""
    if sdk is None:
        yield NoTraces()
        return
    export = SpanExport(settings, sdk, counts, version=version)
    export.start()
    try:
        yield Traces(
            export,
            time.monotonic,
            ratio=settings.trace_sample_ratio,
            follow_clients=settings.trace_follow_clients,
            content=settings.trace_content,
        )
    finally:
        await asyncio.to_thread(export.close)
