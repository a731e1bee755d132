"""Series with a worker's name in their labels. Workers come and go, so these do, too.

Counting in several processes, the library cannot take a series away: a gauge of a worker that is
gone says NaN then, on which no alert fires, and names beyond a number are counted together.
"""

import math
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, values

# The pods of a deployment that is rolled out every day for a year; at some 40 series each, a page
# of 2 MB.
MAX_WORKERS = 500
OTHER = "other"


def several_processes() -> bool:
    """The library decides once, when it is imported."""
    return bool(values.ValueClass._multiprocess)


Metric = TypeVar("Metric", Gauge, Counter)


class WorkerSeries:
    """All of one registry."""

    def __init__(self) -> None:
        self._several_processes = several_processes()
        self._names: set[str] = set()
        self._all: list[PerWorker[Gauge] | PerWorker[Counter]] = []

    def of(self, metric: Metric, *, gone: float = math.nan) -> "PerWorker[Metric]":
        """The first of its labels is the worker. `gone`: what a gauge says of one that is gone and
        cannot be taken away; NaN in a sum would make all of it NaN."""
        series = PerWorker(metric, self, gone)
        self._all.append(series)
        return series

    def label(self, worker: str) -> str:
        if worker in self._names:
            return worker
        if len(self._names) >= MAX_WORKERS:
            return OTHER
        self._names.add(worker)
        return worker

    def forget(self, worker: str) -> None:
        """It is no longer in the pool."""
        for series in self._all:
            if self._several_processes:
                series.end(worker)
            else:
                series.forget(worker)
        if not self._several_processes:
            self._names.discard(worker)


class PerWorker(Generic[Metric]):
    """Resolved series are kept, as finding one costs more than counting in it."""

    def __init__(self, metric: Metric, workers: WorkerSeries, gone: float) -> None:
        self._metric: Metric = metric
        self._gone = gone
        self._workers = workers
        self._known: dict[tuple[str, ...], Metric] = {}

    def of(self, worker: str, *labels: str) -> Metric:
        key = (worker, *labels)
        series = self._known.get(key)
        if series is None:
            label = self._workers.label(worker)
            series = self._metric.labels(label, *labels)
            if label == worker:  # others would fill the table
                self._known[key] = series
        return series

    def forget(self, worker: str) -> None:
        for key in [key for key in self._known if key[0] == worker]:
            del self._known[key]
            self._metric.remove(*key)

    def end(self, worker: str) -> None:
        """Where it cannot be forgotten."""
        for key, series in self._known.items():
            if key[0] == worker and isinstance(series, Gauge):
                series.set(self._gone)
