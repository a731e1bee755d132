"""Who reaches whom, as the NetworkPolicies of the chart say it."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.deploy.chart_release import (
    NAMESPACE,
    VALUE_SETS,
    Manifest,
    Release,
    release_of,
    with_values,
)

NAME = "kubernetes.io/metadata.name"
STRANGER = {"app.kubernetes.io/name": "something-else"}


def admits(policy: Manifest, labels: Mapping[str, str], namespace: str = NAMESPACE) -> bool:
    """Whether a pod of such labels may connect to the pods of the policy."""
    return any(
        "from" not in rule or any(_is(peer, labels, namespace) for peer in rule["from"])
        for rule in policy["ingress"]
    )


def _is(peer: Mapping[str, Any], labels: Mapping[str, str], namespace: str) -> bool:
    pods = peer.get("podSelector", {}).get("matchLabels", {})
    spaces = peer.get("namespaceSelector", {}).get("matchLabels", {NAME: NAMESPACE})
    return pods.items() <= labels.items() and spaces.items() <= {NAME: namespace}.items()


def test_only_the_gateway_and_prometheus_reach_workers() -> None:
    release = release_of("gpu")
    workers = release.policy("qwythos-gateway-workers")
    admitted = {pod.component for pod in release.pods() if admits(workers, pod.labels)}
    assert admitted == {"gateway"}
    assert admits(workers, STRANGER, "monitoring")
    assert not admits(workers, STRANGER)
    assert not admits(workers, STRANGER, "ingress-nginx")
    # The labels alone do not do it: another namespace may have a release of the same name.
    assert not admits(workers, release.pod("gateway").labels, "another")


def test_every_worker_is_behind_the_policy() -> None:
    release = release_of("gpu")
    chosen = release.policy("qwythos-gateway-workers")["podSelector"]["matchLabels"]
    workers = [pod for pod in release.pods() if pod.component == "worker"]
    assert len(workers) == 2
    assert all(chosen.items() <= pod.labels.items() for pod in workers)


def test_the_gateway_is_reached_by_those_that_are_named() -> None:
    release = release_of("gpu")
    gateway = release.policy("qwythos-gateway")
    for namespace in ("ingress-nginx", "monitoring"):
        assert admits(gateway, STRANGER, namespace)
    assert admits(gateway, release.pod("test").labels)
    assert not admits(gateway, STRANGER)
    assert not admits(gateway, release.pod("worker").labels)
    everybody = release_of("minimal").policy("qwythos-gateway")
    assert admits(everybody, STRANGER, "anywhere")


def test_the_gateway_reaches_names_workers_and_what_it_keeps_things_in() -> None:
    release = release_of("gpu")
    egress = release.policy("qwythos-gateway")["egress"]
    ports = [{port["port"] for port in rule["ports"]} for rule in egress]
    assert ports == [{53}, {8000}, {5432}, {6379}]
    (to_workers,) = egress[1]["to"]
    chosen = to_workers["podSelector"]["matchLabels"]
    assert chosen.items() <= release.pod("worker").labels.items()
    assert egress[2]["to"] == [{"ipBlock": {"cidr": "10.20.0.0/24"}}]


@pytest.mark.parametrize("component", ["postgresql", "redis"])
def test_what_is_for_trying_out_is_reached_by_the_gateway_alone(component: str) -> None:
    release = release_of("trial")
    policy = release.policy(f"qwythos-gateway-{component}")
    assert {pod.component for pod in release.pods() if admits(policy, pod.labels)} == {"gateway"}
    chosen = policy["podSelector"]["matchLabels"]
    assert chosen.items() <= release.pod(component).labels.items()


def test_workers_without_downloads_reach_names_only_and_stay_offline() -> None:
    offline = Release(with_values("gpu", networkPolicy={"workersDownload": False}))
    (names,) = offline.policy("qwythos-gateway-workers")["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in offline.pod("worker").containers[0]["env"]


@pytest.mark.parametrize("name", VALUE_SETS)
def test_only_v1_is_led_in_from_outside(name: str) -> None:
    for ingress in release_of(name).of_kind("Ingress"):
        for rule in ingress["spec"]["rules"]:
            assert [path["path"] for path in rule["http"]["paths"]] == ["/v1"]


def test_without_policies_there_are_none() -> None:
    release = Release(with_values("trial", networkPolicy={"enabled": False}))
    assert release.of_kind("NetworkPolicy") == []
