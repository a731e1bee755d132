"""The chart as Helm's own engine renders it, without a cluster."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

helm_python = pytest.importorskip("helm_python", reason="pip install helm-python-sdk")

CHART = Path(__file__).parents[2] / "helm"
VALUE_SETS = {
    path.name.removesuffix("-values.yaml"): path for path in (CHART / "ci").glob("*-values.yaml")
}
RELEASE = "qwythos-gateway"
NAMESPACE = "llm"

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet", "Job", "Pod")


class Pod(NamedTuple):
    """`name` and `kind` are those of what makes it."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Manifest

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


class Release:
    """What an install would apply; `files` by the template that they come from."""

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        name: str = RELEASE,
        namespace: str = NAMESPACE,
    ) -> None:
        with helm_python.Chart.load(CHART) as chart:
            rendered = chart.render(dict(values or {}), name=name, namespace=namespace)
        prefix = "qwythos-gateway/templates/"
        files = {name.removeprefix(prefix): text for name, text in rendered.items()}
        self.notes = files.pop("NOTES.txt")
        self.files = {name: text for name, text in sorted(files.items()) if text.strip()}
        self.manifests: list[Manifest] = [
            manifest
            for text in self.files.values()
            for manifest in yaml.safe_load_all(text)
            if manifest
        ]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    def one(self, kind: str, name: str) -> Manifest:
        (found,) = (each for each in self.of_kind(kind) if each["metadata"]["name"] == name)
        return found

    def pods(self) -> Iterator[Pod]:
        """One of each kind that a workload makes."""
        for each in self.of_kind(*WORKLOADS):
            template = each if each["kind"] == "Pod" else each["spec"]["template"]
            metadata = each["metadata"]
            labels = template["metadata"]["labels"]
            yield Pod(each["kind"], metadata["name"], labels, template["spec"])

    def pod(self, component: str) -> Pod:
        """The first of a component."""
        return next(pod for pod in self.pods() if pod.component == component)

    def policy(self, name: str) -> Manifest:
        spec: Manifest = self.one("NetworkPolicy", name)["spec"]
        return spec


@cache
def release_of(name: str) -> Release:
    """Of a value set; nobody changes it."""
    return Release(values_of(name))


def values_of(name: str) -> dict[str, Any]:
    """A fresh copy of a value set."""
    values: dict[str, Any] = yaml.safe_load(VALUE_SETS[name].read_text("utf-8"))
    return values


def with_values(name: str, **changes: object) -> dict[str, Any]:
    """A value set, changed: `gateway={"replicas": 2}` keeps what else is there of `gateway`."""
    return _merged(values_of(name), changes)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(values))
    for name, change in changes.items():
        there = merged.get(name)
        both = isinstance(there, dict) and isinstance(change, dict)
        merged[name] = _merged(there or {}, change) if both else change
    return merged
