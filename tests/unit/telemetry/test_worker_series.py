"""The series of workers, which come and go."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.telemetry.metrics import Metrics
from app.telemetry.worker_series import MAX_WORKERS


def test_pods_that_come_and_go_for_ever_fill_nothing() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(3 * MAX_WORKERS):
        name = f"10.0.{number // 250}.{number % 250}:8000"
        metrics.upstream_succeeded(name)
        metrics.pool.worker_load(name, 1, 1)
        metrics.pool.forget_worker(name)
    assert {label for label in labels(registry) if label.startswith("10.0.")} == set()


def test_more_workers_at_once_than_are_worth_a_series_are_counted_together() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(MAX_WORKERS + 3):
        metrics.upstream_succeeded(f"w{number}")
        metrics.upstream_succeeded(f"w{number}")
    found = labels(registry)
    assert len(found) == MAX_WORKERS + 1
    other = {"worker": "other", "outcome": "ok"}
    assert registry.get_sample_value("gateway_upstream_requests_total", other) == 6


PROCESS = """
import sys
from app.telemetry.metrics import Metrics

metrics = Metrics()
for name in ("gone", "there"):
    metrics.worker_up(name, up=True)
    metrics.pool.worker_load(name, 2, 7)
    metrics.upstream_succeeded(name)
metrics.pool.forget_worker("gone")
sys.stdout.write(metrics.render()[0].decode())
"""


def test_with_several_processes_a_worker_that_is_gone_is_neither_up_nor_down(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    page = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 'gateway_worker_up{worker="gone"} NaN' in page
    assert 'gateway_worker_up{worker="there"} 1.0' in page
    assert 'gateway_worker_in_flight{worker="gone"} 0.0' in page
    assert 'gateway_upstream_requests_total{outcome="ok",worker="gone"} 1.0' in page


def labels(registry: CollectorRegistry) -> set[str]:
    """All that are given for a worker."""
    return {
        sample.labels["worker"]
        for family in registry.collect()
        for sample in family.samples
        if "worker" in sample.labels
    }
