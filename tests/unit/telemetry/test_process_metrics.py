import gc
import os
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from app.telemetry.process_metrics import EDGE_REFUSALS, SPAN_OUTCOMES, LoopLag, ProcessMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ProcessMetrics:
    return ProcessMetrics(registry)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(name, labels)
    assert value is not None, name
    return value


def test_every_reason_is_there_before_it_happens(
    registry: CollectorRegistry, metrics: ProcessMetrics
) -> None:
    for code in EDGE_REFUSALS:
        assert sample(registry, "gateway_edge_refusals_total", code=code) == 0
    for outcome in SPAN_OUTCOMES:
        assert sample(registry, "gateway_trace_spans_total", outcome=outcome) == 0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_open_files_are_counted(
    registry: CollectorRegistry, metrics: ProcessMetrics, request: pytest.FixtureRequest
) -> None:
    gc.collect()  # or a file of an earlier test may be closed in between
    metrics.files()
    before = sample(registry, "gateway_open_files")
    request.getfixturevalue("pipe")
    metrics.files()
    assert sample(registry, "gateway_open_files") == before + 2
    assert sample(registry, "gateway_open_files_limit") > before


def test_the_lag_of_a_loop_is_what_it_slept_too_long() -> None:
    now = 5.0
    lags: list[float] = []
    lag = LoopLag(lags.append, lambda: now, nap_seconds=1.0)
    lag.woke()  # nobody has slept yet
    lag.sleeps()
    now += 1.0
    lag.woke()
    lag.sleeps()
    now += 3.5
    lag.woke()
    now += 7.0  # work of its own, which is no lag
    lag.sleeps()
    now += 0.5  # clocks of different grain
    lag.woke()
    assert lags == [0.0, 2.5, 0.0]
