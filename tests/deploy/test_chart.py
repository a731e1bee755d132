"""The chart as a whole: it lints, renders as committed, and refuses what cannot work.

It is rendered by Helm's own engine and never applied to a cluster.
"""

import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart_release import (
    CHART,
    RELEASE,
    VALUE_SETS,
    Release,
    helm_python,
    release_of,
    values_of,
    with_values,
)
from tests.deploy.chart_snapshots import path_of, snapshot

WORKER = [{"name": "w", "url": "http://w:8000"}]


@pytest.mark.parametrize("name", [None, *VALUE_SETS])
def test_it_lints_strictly(name: str | None) -> None:
    report = helm_python.lint(CHART, values_of(name) if name else None, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("name", VALUE_SETS)
def test_it_renders_as_committed(name: str) -> None:
    assert snapshot(name) == path_of(name).read_text("utf-8"), (
        "is it meant? `python -m tests.deploy.chart_snapshots` writes it anew"
    )


def test_its_app_version_is_the_gateways() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == version("qwythos-gateway")


def test_its_package_holds_the_rules_and_the_dashboards(tmp_path: Path) -> None:
    """They are links to files outside the chart."""
    package = helm_python.package(CHART, destination=tmp_path)
    with tarfile.open(package) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    boards = (path.name for path in (CHART / "dashboards").glob("*.json"))
    assert names >= {
        "rules/alerts.yaml",
        "rules/recording.yaml",
        *(f"dashboards/{board}" for board in boards),
    }


@pytest.mark.parametrize(
    "values",
    [
        {"gatewy": {}},
        {"gateway": {"replica": 3}},
        {"gateway": {"replicas": "3"}},
        {"pools": [{"name": "short", "gpu": 1}]},
        {"pools": [{"gpus": 1}]},
        {"pools": [{"name": "Short"}]},
        {"poolDefaults": {"image": {"tag": "latest"}}},
        {"poolDefaults": {"name": "short"}},
        {"image": {"tag": "latest"}},
        {"secrets": {"keys": {"keyPepper": ""}}},
        {"autoscaling": {"mode": "both"}},
        {"metrics": {"monitor": True}},
        {"fullnameOverride": "Foo Bar"},
        {"gateway": {"config": {"log_levle": "debug"}}},
        {"externalWorkers": [{"name": "w", "url": "http://w", "settings": {"tag": ["short"]}}]},
        # A secret in values would stand in the release's history, and in the ConfigMap.
        {"externalWorkers": [{"name": "w", "url": "http://user:password@w:8000"}]},
        {"externalWorkers": [{"name": "w", "url": "http://w:8000?api_key=k"}]},
        {"externalWorkers": [{"name": "w", "url": "http://w:8000/v1?api_key=k"}]},
        {"externalWorkers": [{"name": "w", "url": "http://w:8000/v1#k"}]},
        {"externalWorkers": [{"name": "w", "url": "http://w", "settings": {"api_key": "k"}}]},
    ],
)
def test_the_schema_refuses_what_is_misspelt_or_secret(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError, match="don't meet the specifications of the schema"):
        Release(values)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"pools": []}, "pools, externalWorkers: both are empty"),
        ({"externalWorkers": [WORKER[0] | {"name": "short"}]}, "the name short is given twice"),
        (
            {"gateway": {"terminationGracePeriodSeconds": 349}},
            "terminationGracePeriodSeconds: 349 is too short: .* are 350",
        ),
        ({"gateway": {"config": {"key_pepper": "k"}}}, "a secret does not belong in a ConfigMap"),
        (
            {"gateway": {"config": {"otlp_endpoint": "http://user:password@collector:4318"}}},
            "otlp_endpoint: a credential does not belong in a ConfigMap",
        ),
        (
            {"gateway": {"config": {"otlp_endpoint": "https://collector/v1/traces?key=k"}}},
            "otlp_endpoint: a credential does not belong in a ConfigMap",
        ),
        ({"gateway": {"config": {"drain_seconds": 9}}}, "is set by the chart; use gateway.drain"),
        ({"postgresql": {"enabled": True}}, "migration.mode: .*; set initContainer"),
        ({"autoscaling": {"mode": "keda"}}, "autoscaling.keda.prometheusUrl: is empty"),
        (
            {"autoscaling": {"mode": "keda", "keda": {"prometheusUrl": "http://p"}}},
            "metrics.monitor: KEDA needs the metrics",
        ),
        ({"pools": [{"name": "replicas"}]}, "the name of a Service of the chart's own"),
        (
            {"externalWorkers": [{"name": "one", "url": "https://w:8443"}]},
            "networkPolicy.externalWorkers.ports: has not 8443, on which the worker one is",
        ),
        ({"externalWorkers": [{"name": "w", "url": "https://w/v1"}]}, "ports: has not 443, on"),
        ({"externalWorkers": [{"name": "w", "url": "http://[fd00::1]"}]}, "ports: has not 80, on"),
        # Of a NetworkPolicy no port means all.
        (
            {"externalWorkers": WORKER, "networkPolicy": {"externalWorkers": {"ports": []}}},
            "ports: has not 8000, on which the worker w is",
        ),
        ({"fullnameOverride": "1e6"}, "fullnameOverride: Services would be named 1e6"),
        (
            {"pools": [{"name": "long", "tensorParallelSize": 4}]},
            "long has a tensorParallelSize of 4 and 1 gpus",
        ),
        (
            {"pools": [{"name": "a", "autoscaling": {"minReplicas": 9}}]},
            "a scales from minReplicas 9 to maxReplicas 4",
        ),
        ({"autoscaling": {"minReplicas": 11}}, "autoscaling.minReplicas: is more than maxReplicas"),
        (
            {"poolDefaults": {"modelCache": {"type": "existingClaim"}}},
            "modelCache.existingClaim: name the claim",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_advice(values: dict[str, Any], advice: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=advice):
        Release(values)


def test_a_worker_is_reached_on_the_port_that_its_url_has() -> None:
    workers = [*WORKER, {"name": "far", "url": "https://far/v1"}]
    opened = {"externalWorkers": {"ports": [8000, 443]}}
    policy = Release({"externalWorkers": workers, "networkPolicy": opened}).policy(RELEASE)
    ports = [{port["port"] for port in rule["ports"]} for rule in policy["egress"]]
    assert {8000, 443} in ports
    for policy in (
        {"enabled": False},  # nothing to be opened
        {"gatewayExtraEgress": [{"ports": [{"port": 443}]}]},  # opened by hand
    ):
        Release({"externalWorkers": workers[1:], "networkPolicy": policy})


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"otlp_endpoint": "http://collector:4318"}, "otlp_endpoint"),
        ({"audit_checkpoints": "s3://bucket/prefix"}, "audit_checkpoints"),
        ({"audit_checkpoints": "syslog://host:514"}, "audit_checkpoints"),
        ({"audit_checkpoints": "syslog+tcp://host:601"}, "audit_checkpoints"),
        ({"workers_file": "/etc/gateway/workers.yaml"}, "workers_file"),
        ({"audit_checkpoints": "file:///var/lib/gateway/c"}, None),
        ({"audit_checkpoints": "syslog:///dev/log"}, None),
    ],
)
def test_the_notes_warn_of_what_the_network_policy_cuts_off(
    config: dict[str, str], named: str | None
) -> None:
    values = with_values("minimal", gateway={"config": config})
    cut_off = "is not reached:\n  {}.\n"
    notes = Release(values).notes + "\n"
    assert ("is not reached" in notes) is (named is not None)
    assert named is None or cut_off.format(named) in notes
    for policy in (
        {"enabled": False},
        {"gatewayExtraEgress": [{"ports": [{"port": 4318}]}]},
    ):
        assert "is not reached" not in Release(values | {"networkPolicy": policy}).notes


def test_the_notes_warn_of_what_is_not_for_production() -> None:
    assert "no backups, no second copy" in release_of("trial").notes
    assert "\n!" not in release_of("gpu").notes
    open_workers = Release(with_values("gpu", networkPolicy={"enabled": False})).notes
    assert "whoever reaches a worker may use it without a key" in open_workers
    masked = Release(with_values("minimal", ingress={"enabled": True, "host": "llm"})).notes
    assert "all clients share the address" in masked
    alone = Release(with_values("minimal", secrets={"keys": {"redisUrl": ""}})).notes
    assert "3 times what it is allowed" in alone
