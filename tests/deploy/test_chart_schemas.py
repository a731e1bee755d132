"""Every manifest against the schemas of Kubernetes, of the oldest and the newest version that the
chart promises. Of the kinds of operators, against what their definitions say of the fields that the
chart uses: written by hand, and closed, so that a misspelt field is found."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.chart_release import (
    CHART,
    VALUE_SETS,
    Manifest,
    Release,
    values_of,
    with_values,
)

OLDEST, NEWEST = "1.30", "1.37"
OPERATORS = Path(__file__).parent / "chart" / "operator_kinds.schema.json"

HPA = {"autoscaling": {"mode": "hpa"}, "metrics": {"monitor": "service"}}
# What no value set has.
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "hpa and service monitors": with_values("gpu", **HPA),
    "node port and emptyDir": with_values(
        "gpu",
        service={"type": "NodePort"},
        poolDefaults={"modelCache": {"type": "emptyDir"}, "apiKeySecret": {"name": "k"}},
        gateway={"extraEnv": [{"name": "TZ", "value": "UTC"}], "nodeSelector": {"a": "b"}},
    ),
}
RELEASES = {name: values_of(name) for name in VALUE_SETS} | VARIANTS

# Each a legal name, and to YAML a number or a truth. (To Python's a number needs a dot: 1e6 is one
# to Kubernetes' alone.)
NUMBER, TRUTH = "123", "true"
SECRET = {"name": NUMBER, "key": TRUTH}
CLASS = {"storageClass": TRUTH}
READ_AS_SOMETHING_ELSE: dict[str, Any] = {
    "nameOverride": NUMBER,
    "fullnameOverride": "gateway",
    "secrets": {"existingSecret": NUMBER, "keys": {"databaseUrl": "1", "keyPepper": "2"}},
    "serviceAccount": {"name": NUMBER},
    "gateway": {"priorityClassName": TRUTH},
    "ingress": {"enabled": True, "host": "llm", "className": TRUTH},
    "audit": {"persistence": CLASS},
    "poolDefaults": {
        "apiKeySecret": SECRET,
        "huggingFaceTokenSecret": SECRET,
        "runtimeClassName": NUMBER,
        "modelCache": CLASS,
    },
    "pools": [
        {"name": "1e6"},
        {"name": NUMBER, "modelCache": {"type": "existingClaim", "existingClaim": NUMBER}},
        {"name": TRUTH},
        {"name": "off"},
    ],
    "metrics": {"monitor": "pod"},
    "tests": {"apiKeySecret": SECRET},
}


@pytest.mark.parametrize(
    ("name", "kubernetes"),
    [*product(VALUE_SETS, (OLDEST, NEWEST)), *product(VARIANTS, (OLDEST,))],
)
def test_every_manifest_is_valid(name: str, kubernetes: str) -> None:
    checked = 0
    for manifest in Release(RELEASES[name]).manifests:
        if _is_of_an_operator(manifest):
            continue
        kubernetes_validate.validate(manifest, kubernetes, strict=True)
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize("name", ["gpu", "hpa and service monitors"])
def test_the_kinds_of_operators_have_only_fields_that_exist(name: str) -> None:
    schemas = json.loads(OPERATORS.read_text("utf-8"))
    found = [each for each in Release(RELEASES[name]).manifests if _is_of_an_operator(each)]
    assert len(found) >= 4
    for manifest in found:
        kind = schemas["definitions"][manifest["kind"]]
        jsonschema.validate(manifest, schemas | kind, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    "migration",
    [
        {"migration": {"secret": SECRET}},
        {
            "migration": {"secret": SECRET, "mode": "initContainer"},
            "postgresql": {"enabled": True, "passwordKey": NUMBER, **CLASS},
        },
    ],
    ids=["hook", "trial"],
)
def test_a_name_that_yaml_reads_as_a_number_stays_a_name(migration: dict[str, Any]) -> None:
    release = Release(READ_AS_SOMETHING_ELSE | migration, name=NUMBER, namespace=NUMBER)
    schemas = json.loads(OPERATORS.read_text("utf-8"))
    for manifest in release.manifests:
        if _is_of_an_operator(manifest):
            kind = schemas["definitions"][manifest["kind"]]
            jsonschema.validate(manifest, schemas | kind, jsonschema.Draft7Validator)
        else:
            kubernetes_validate.validate(manifest, OLDEST, strict=True)
    pools = {pod.labels.get("qwythos-gateway/pool") for pod in release.pods()}
    assert pools - {None} == {"1e6", NUMBER, TRUTH, "off"}


def test_the_oldest_version_is_the_one_that_the_chart_promises() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert kubernetes_validate.latest_version().startswith(NEWEST)


def _is_of_an_operator(manifest: Manifest) -> bool:
    return manifest["apiVersion"].partition("/")[0] in ("monitoring.coreos.com", "keda.sh")
