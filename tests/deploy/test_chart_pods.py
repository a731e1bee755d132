"""What the pods of the chart may do, how long they have to end, and what they need to be there."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.deploy.chart_release import (
    CHART,
    VALUE_SETS,
    WORKLOADS,
    Manifest,
    Pod,
    Release,
    release_of,
    values_of,
    with_values,
)

RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
WORKER_END_SECONDS = 60  # in which vLLM ends its processes after its drain
GATEWAY_END_SECONDS = 45  # for the last answers and records

every_set = pytest.mark.parametrize("name", VALUE_SETS)


@every_set
def test_every_pod_keeps_the_restricted_pod_security_standard(name: str) -> None:
    for pod in release_of(name).pods():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod.containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in security
            assert not any("hostPort" in port for port in container.get("ports", ()))
        for volume in pod.spec.get("volumes", ()):
            assert set(volume) - {"name"} <= RESTRICTED_VOLUMES


@every_set
def test_every_root_file_system_but_vllms_is_read_only(name: str) -> None:
    for pod in release_of(name).pods():
        for container in pod.containers:
            read_only = container["securityContext"]["readOnlyRootFilesystem"]
            assert read_only is (pod.component != "worker")


@every_set
def test_no_pod_gets_a_token_of_the_cluster_or_variables_for_services(name: str) -> None:
    release = release_of(name)
    for pod in release.pods():
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False
    for account in release.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@every_set
def test_every_container_says_what_memory_it_takes_and_from_which_image(name: str) -> None:
    for pod in release_of(name).pods():
        for container in pod.containers:
            assert "memory" in container["resources"]["requests"]
            assert "memory" in container["resources"]["limits"]
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert tag not in ("", "latest")


@pytest.mark.parametrize("drain", [0, 300, 3600])
def test_a_gateway_has_longer_to_end_than_its_streams_may_take(drain: int) -> None:
    pod = Release(with_values("minimal", gateway={"drainSeconds": drain})).pod("gateway")
    before = pod.containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod.spec["terminationGracePeriodSeconds"] >= before + drain + GATEWAY_END_SECONDS


def test_the_shortest_time_to_end_that_is_enough_is_taken() -> None:
    gateway = {"terminationGracePeriodSeconds": 350}
    pod = Release(with_values("minimal", gateway=gateway)).pod("gateway")
    assert pod.spec["terminationGracePeriodSeconds"] == 350


def test_a_worker_has_longer_to_end_than_its_requests_may_take() -> None:
    release = Release(with_values("gpu", poolDefaults={"shutdownSeconds": 1200}))
    workers = [pod for pod in release.pods() if pod.component == "worker"]
    assert len(workers) == 2
    for pod in workers:
        (container,) = pod.containers
        assert "--shutdown-timeout=1200" in container["args"]
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod.spec["terminationGracePeriodSeconds"] >= before + 1200 + WORKER_END_SECONDS


def test_a_worker_may_take_half_an_hour_to_load() -> None:
    probe = release_of("gpu").pod("worker").containers[0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30 * 60


def test_the_spool_outlives_its_pod_by_default() -> None:
    kept = release_of("minimal").of_kind("StatefulSet")[0]["spec"]
    (claim,) = kept["volumeClaimTemplates"]
    assert kept["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    mounts = kept["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {claim["metadata"]["name"]: "/var/lib/gateway"}.items() <= {
        mount["name"]: mount["mountPath"] for mount in mounts
    }.items()
    without = Release(with_values("minimal", audit={"persistence": {"enabled": False}}))
    assert not without.of_kind("StatefulSet")
    (deployment,) = without.of_kind("Deployment")
    assert {"name": "home", "emptyDir": {"sizeLimit": "4Gi"}} in deployment["spec"]["template"][
        "spec"
    ]["volumes"]


@every_set
def test_every_selector_finds_its_pods_and_no_others(name: str) -> None:
    release = release_of(name)
    pods = list(release.pods())
    selected = 0
    for manifest in release.of_kind("Service", "PodDisruptionBudget", *WORKLOADS):
        selector = _selector(manifest)
        if selector is None:  # a Pod, or a Job, which makes its own
            continue
        found = {pod.name for pod in pods if selector.items() <= pod.labels.items()}
        owner = manifest["metadata"]["name"].removesuffix("-replicas")
        assert found == {owner}, manifest["metadata"]["name"]
        selected += 1
    assert selected >= 4


@every_set
def test_every_port_of_a_service_is_one_of_its_pods(name: str) -> None:
    release = release_of(name)
    for service in release.of_kind("Service"):
        selector = service["spec"]["selector"]
        pod = next(pod for pod in release.pods() if selector.items() <= pod.labels.items())
        names = {port["name"] for each in pod.containers for port in each.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@every_set
def test_what_a_pod_mounts_is_there_or_is_a_secret_that_the_values_name(name: str) -> None:
    release = release_of(name)
    named = set(_strings(_merged_values(name)))
    maps = {each["metadata"]["name"] for each in release.of_kind("ConfigMap")}
    for pod in release.pods():
        claims = _claims(release, pod)
        volumes = {volume["name"] for volume in pod.spec.get("volumes", ())} | claims
        for container in pod.containers:
            mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounts <= volumes
        for kind, reference in _references(pod.spec):
            assert reference in (maps if kind == "configMap" else named)


def test_a_hook_needs_nothing_of_the_release_that_it_comes_before() -> None:
    release = release_of("gpu")
    job = release.pod("migration")
    assert job.spec["serviceAccountName"] == "default"
    assert [kind for kind, _ in _references(job.spec)] == ["secret"]


def test_pods_of_the_gateway_are_spread_by_their_own_labels() -> None:
    pod = release_of("minimal").pod("gateway")
    constraints = pod.spec["topologySpreadConstraints"]
    assert len(constraints) == 2
    for constraint in constraints:
        assert constraint["labelSelector"]["matchLabels"].items() <= pod.labels.items()


def test_gpus_and_tensor_parallel_ranks_are_as_many() -> None:
    long = next(pod for pod in release_of("gpu").pods() if pod.name.endswith("-long"))
    (container,) = long.containers
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert "--tensor-parallel-size=4" in container["args"]


def test_a_pool_may_say_no_and_none_where_the_defaults_say_yes() -> None:
    pool = {
        "name": "cpu",
        "gpus": 0,
        "tensorParallelSize": 1,
        "preStopSeconds": 0,
        "tolerations": [],
        "podDisruptionBudget": {"enabled": False},
    }
    release = Release(with_values("gpu", pools=[pool]))
    worker = release.pod("worker")
    assert "nvidia.com/gpu" not in worker.containers[0]["resources"]["limits"]
    assert "lifecycle" not in worker.containers[0]
    assert "tolerations" not in worker.spec
    budgets = [each["metadata"]["name"] for each in release.of_kind("PodDisruptionBudget")]
    assert budgets == ["qwythos-gateway"]


def _selector(manifest: Manifest) -> Mapping[str, str] | None:
    selector: Mapping[str, Any] | None = manifest["spec"].get("selector")
    if selector is None:
        return None
    labels: Mapping[str, str] = selector.get("matchLabels", selector)
    return labels


def _claims(release: Release, pod: Pod) -> set[str]:
    if pod.kind != "StatefulSet":
        return set()
    templates = release.one(pod.kind, pod.name)["spec"].get("volumeClaimTemplates", ())
    return {template["metadata"]["name"] for template in templates}


def _references(value: object) -> Iterator[tuple[str, str]]:
    """Of ConfigMaps, Secrets and claims: what kind, and its name."""
    names = {
        "configMap": "name",
        "secret": "secretName",
        "secretKeyRef": "name",
        "persistentVolumeClaim": "claimName",
    }
    if isinstance(value, dict):
        for key, each in value.items():
            if key in names and isinstance(each, dict):
                # A secret of a projected volume calls it `name`.
                yield key, each.get(names[key]) or each["name"]
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _merged_values(name: str) -> object:
    return [yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), values_of(name)]
