"""What rules and runbooks are checked against: Debian's promtool, and the program's own names."""

import shutil
import subprocess
from functools import cache

import pytest
from prometheus_client import CollectorRegistry

from app.telemetry.metrics import Metrics
from tests.deploy.alert_rules import ROOT

PROMTOOL = shutil.which("promtool")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool on PATH (Debian: apt install prometheus)"
)


def promtool(*arguments: object) -> None:
    """Fails with what it says."""
    done = subprocess.run(
        [str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def exposed() -> frozenset[str]:
    """Every name that a page of a gateway may have."""
    registry = CollectorRegistry()
    Metrics(registry)
    return frozenset(
        f"{family.name}{suffix}"
        for family in registry.collect()
        for suffix in SUFFIXES.get(family.type, ("",))
    )


def labels_of(name: str) -> set[str]:
    """Those that a series of that name may have; of ours and of its process."""
    metrics = _metrics()
    if name not in metrics and name.startswith("process_"):
        return set()
    return metrics[name] | ({"le"} if name.endswith("_bucket") else set())


@cache
def _metrics() -> dict[str, set[str]]:
    registry = CollectorRegistry()
    Metrics(registry)
    # Nothing public says it before there is a series of the metric.
    known = registry._collector_to_names
    return {
        name: set(getattr(collector, "_labelnames", ()))
        for collector, names in known.items()
        for name in names
    }


@cache
def program() -> str:
    """The text of all of its modules."""
    return "\n".join(path.read_text("utf-8") for path in (ROOT / "app").rglob("*.py"))
