"""What the chart hands to Prometheus, Grafana and KEDA."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from app.telemetry.metrics import Metrics
from tests.deploy.chart_release import (
    RELEASE,
    Release,
    release_of,
    with_values,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
RUNBOOKS = "https://wiki.example.com/gateway/"
# What vLLM 0.32 counts, and KEDA is asked to look at.
VLLM_METRICS = {"vllm:num_requests_running", "vllm:num_requests_waiting"}


@pytest.mark.parametrize("name", ["alerts", "recording"])
def test_rules_are_those_of_the_repository_with_runbooks_that_can_be_opened(name: str) -> None:
    rendered = release_of("gpu").one("PrometheusRule", f"qwythos-gateway-{name}")
    assert rendered["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    groups = deepcopy(rendered["spec"]["groups"])
    for rule in (rule for group in groups for rule in group["rules"]):
        if "alert" in rule:
            url = rule["annotations"]["runbook_url"]
            assert url.startswith(RUNBOOKS)
            rule["annotations"]["runbook_url"] = url.removeprefix(RUNBOOKS)
    source = yaml.safe_load((DEPLOY / "prometheus" / f"{name}.yaml").read_text("utf-8"))
    assert groups == source["groups"]


def test_dashboards_are_those_of_the_repository() -> None:
    boards = {path.name: path for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    found = {}
    for each in release_of("gpu").of_kind("ConfigMap"):
        if each["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= each["data"]
    assert len(found) == 3
    assert set(found) == set(boards)
    for name, content in found.items():
        assert content.rstrip("\n") == boards[name].read_text("utf-8").rstrip("\n")


@pytest.mark.parametrize(
    ("monitor", "kind"), [("pod", "PodMonitor"), ("service", "ServiceMonitor")]
)
def test_monitors_find_the_gateway_and_the_workers_once(monitor: str, kind: str) -> None:
    release = Release(with_values("gpu", metrics={"monitor": monitor}))
    assert len(release.of_kind("PodMonitor", "ServiceMonitor")) == 2
    targets: list[tuple[str, dict[str, str]]] = (
        [(pod.name, dict(pod.labels)) for pod in release.pods()]
        if monitor == "pod"
        else [
            (each["metadata"]["name"], each["metadata"]["labels"])
            for each in release.of_kind("Service")
        ]
    )
    found = []
    for manifest in release.of_kind(kind):
        selector = manifest["spec"]["selector"]["matchLabels"]
        found += [name for name, labels in targets if selector.items() <= labels.items()]
    assert sorted(found) == ["qwythos-gateway", "qwythos-gateway-long", "qwythos-gateway-short"]


def test_what_scales_is_asked_for_by_metrics_that_exist() -> None:
    exposed = Metrics(CollectorRegistry()).render()[0].decode()
    gauges = set(re.findall(r"^# TYPE (gateway_\w+) gauge$", exposed, re.MULTILINE))
    for scaled in release_of("gpu").of_kind("ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            metrics = set(re.findall(r"(?:vllm:|gateway_)\w+", trigger["metadata"]["query"]))
            assert metrics
            assert metrics <= gauges | VLLM_METRICS
    assert {each["pods"]["metric"]["name"] for each in _autoscaler()["spec"]["metrics"]} <= gauges


@pytest.mark.parametrize(
    ("changes", "in_flight", "queued"),
    [({}, "400", "200"), ({"inFlightPerReplica": 30, "queuedPerReplica": 7}, "30", "7")],
)
def test_both_autoscalers_want_as_many_requests_of_a_replica(
    changes: dict[str, int], in_flight: str, queued: str
) -> None:
    wanted = {"gateway_in_flight_requests": in_flight, "gateway_queued_requests": queued}
    metrics = _autoscaler(**changes)["spec"]["metrics"]
    assert len(metrics) == 2
    assert {
        each["pods"]["metric"]["name"]: each["pods"]["target"]["averageValue"] for each in metrics
    } == wanted
    assert {each["pods"]["target"]["type"] for each in metrics} == {"AverageValue"}

    scaled = Release(with_values("gpu", autoscaling=changes)).one("ScaledObject", RELEASE)
    triggers = scaled["spec"]["triggers"]
    assert len(triggers) == 2
    for trigger in triggers:
        (metric,) = re.findall(r"gateway_\w+", trigger["metadata"]["query"])
        assert trigger["metadata"]["threshold"] == wanted[metric]
        assert trigger["metricType"] == "AverageValue"


def test_each_scaled_object_finds_the_pods_that_it_scales() -> None:
    release = release_of("gpu")
    scaled = {each["metadata"]["name"]: each for each in release.of_kind("ScaledObject")}
    assert set(scaled) == {"qwythos-gateway", "qwythos-gateway-short"}
    for name, each in scaled.items():
        target = each["spec"]["scaleTargetRef"]
        assert "replicas" not in release.one(target["kind"], target["name"])["spec"]
        for trigger in each["spec"]["triggers"]:
            (pods,) = set(re.findall(r'pod=~"([^"]+)"', trigger["metadata"]["query"]))
            assert re.fullmatch(pods, f"{name}-0")
            assert not re.fullmatch(pods, "another-0")


def test_an_autoscaler_of_either_kind_is_the_only_one() -> None:
    assert _autoscaler()["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"
    assert release_of("gpu").of_kind("HorizontalPodAutoscaler") == []
    none = release_of("minimal")
    assert none.of_kind("HorizontalPodAutoscaler", "ScaledObject") == []
    assert none.one("StatefulSet", "qwythos-gateway")["spec"]["replicas"] == 3


def _autoscaler(**changes: int) -> dict[str, Any]:
    release = Release(with_values("minimal", autoscaling={"mode": "hpa", **changes}))
    (autoscaler,) = release.of_kind("HorizontalPodAutoscaler")
    return autoscaler
