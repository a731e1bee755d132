"""How a process itself does, counted: its event loop, its connections, its open files, its end.

The library's own `process_*` are there only where one process counts alone.
"""

import os
import resource
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from app.telemetry.series import Family

# What is refused in place of the application, by the code of the error; and what is told nothing:
# connections far above the limit, and those of clients that stopped reading.
EDGE_REFUSALS = (
    "invalid_http_request", "request_url_too_long", "method_not_allowed", "request_timeout",
    "headers_too_large", "server_is_overloaded", "connection_cut", "client_stalled",
)  # fmt: skip
SPAN_OUTCOMES = ("exported", "queue_full", "failed")

# From the clock's own grain to a stall at which workers are no longer blamed.
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

OPEN_FILES = "/dev/fd"  # one name for each, on Linux and macOS


class ProcessMetrics:
    """Part of `Metrics`, as `metrics.process`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        family = Family(registry)
        self._lag = family.histogram(
            "event_loop_lag_seconds",
            "How much later than it was due the event loop took its turn; ten times a second.",
            buckets=LAG_SECONDS,
        )
        self._connections = family.gauge(
            "open_connections", "Connections of clients that are open.", several="livesum"
        )
        self._connections_limit = family.gauge(
            "connections_limit", "How many may be open: a setting.", several="livesum"
        )
        self._refusals = family.counter(
            "edge_refusals",
            "Requests and connections that were refused before the application saw them, by code.",
            ["code"],
        )
        for code in EDGE_REFUSALS:  # there at 0, before anything happens
            self._refusals.labels(code)
        self._draining = family.gauge(
            "draining", "1 while this process takes its leave, else 0.", several="livemax"
        )
        # Of several processes the one that was asked last speaks: what the others said is older.
        self._ready = family.gauge(
            "ready",
            "What /readyz says, by check: 1 where it passes, else 0; of the process that was asked "
            "last.",
            ["check"],
            several="livemostrecent",
        )
        self._files = family.gauge(
            "open_files",
            "Files and sockets that are open; of the fullest process.",
            several="livemax",
        )
        self._files_limit = family.gauge(
            "open_files_limit", "How many a process may have open.", several="livemin"
        )
        spans = family.counter(
            "trace_spans",
            "Spans of traces: exported, or dropped because the queue was full or the collector did "
            "not take them.",
            ["outcome"],
        )
        self._spans = {outcome: spans.labels(outcome) for outcome in SPAN_OUTCOMES}

    def loop_lag(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def connections(self, count: int, limit: int) -> None:
        self._connections.set(count)
        self._connections_limit.set(limit)

    def edge_refused(self, code: str) -> None:
        """`code`: one of EDGE_REFUSALS."""
        self._refusals.labels(code).inc()

    def draining(self, draining: bool) -> None:
        self._draining.set(1 if draining else 0)

    def ready(self, checks: Mapping[str, bool]) -> None:
        for check, passes in checks.items():
            self._ready.labels(check).set(1 if passes else 0)

    def files(self) -> None:
        """Counts them. Blocks for milliseconds where there are ten thousand."""
        try:
            count = len(os.listdir(OPEN_FILES)) - 1  # its own
        except OSError:
            return
        self._files.set(count)
        self._files_limit.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def spans(self, outcome: str, count: int) -> None:
        """`outcome`: one of SPAN_OUTCOMES."""
        self._spans[outcome].inc(count)


class LoopLag:
    """Around a sleep of whoever sleeps again and again for `nap_seconds`."""

    def __init__(
        self, observe: Callable[[float], None], clock: Callable[[], float], nap_seconds: float
    ) -> None:
        self._observe = observe
        self._clock = clock
        self._nap_seconds = nap_seconds
        self._due_at: float | None = None

    def sleeps(self) -> None:
        self._due_at = self._clock() + self._nap_seconds

    def woke(self) -> None:
        if self._due_at is not None:
            self._observe(max(0.0, self._clock() - self._due_at))
