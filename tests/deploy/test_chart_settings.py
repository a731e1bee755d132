"""What the chart tells the gateway is what the gateway understands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.main import create_app
from app.settings import SECRETS, Settings, WorkerSettings, load_settings
from tests.deploy.chart_release import (
    CHART,
    VALUE_SETS,
    Manifest,
    Release,
    helm_python,
    release_of,
    with_values,
)
from tests.deploy.commands import read

SECRET_DIRECTORY = "/run/secrets"
EXAMPLES = {
    "databaseUrl": "postgresql://gateway:password@db:5432/gateway",
    "redisUrl": "redis://redis:6379/0",
    "keyPepper": "0123456789abcdef0123456789abcdef",
    "adminToken": "an-admin-token-of-32-characters-",
    "sealingKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "auditSigningKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "otlpHeaders": "authorization=Bearer a-token",
}

every_set = pytest.mark.parametrize("name", VALUE_SETS)


@pytest.fixture(autouse=True)
def no_other_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pod has none but those of its own."""
    monkeypatch.chdir(tmp_path)


def installed(release: Release, root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the gateway's pod reads them, with the files that are mounted below `root`."""
    container = release.pod("gateway").containers[-1]
    config = release.one("ConfigMap", "qwythos-gateway")["data"]["config.yaml"]
    (root / "config.yaml").write_text(config.replace(SECRET_DIRECTORY, str(root)), "utf-8")
    for path, content in _mounted(release.pod("gateway").spec):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(content + "\n", "utf-8")
    for variable in container["env"]:
        value = variable["value"].replace(SECRET_DIRECTORY, str(root))
        monkeypatch.setenv(variable["name"], value)
    monkeypatch.setenv("GATEWAY_CONFIG", str(root / "config.yaml"))
    return load_settings(home=root)


def _mounted(spec: Manifest) -> Iterator[tuple[str, str]]:
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for item in volumes["secrets"]["secret"]["items"]:
        yield f"gateway/{item['path']}", EXAMPLES[item["path"]]
    for source in volumes.get("worker-keys", {"projected": {"sources": ()}})["projected"][
        "sources"
    ]:
        for item in source["secret"]["items"]:
            yield f"workers/{item['path']}", f"key-of-{item['path']}"


@every_set
def test_the_gateway_starts_on_what_its_pod_is_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = installed(release_of(name), tmp_path, monkeypatch)
    assert settings.drain_seconds == 300
    create_app(settings)  # refuses what it cannot start on


def test_each_pool_is_a_name_with_workers_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = release_of("gpu")
    settings = installed(release, tmp_path, monkeypatch)
    services = {each["metadata"]["name"] for each in release.of_kind("Service")}
    found = {}
    for worker in settings.workers_dns:
        assert worker.api_key is not None
        host = worker.name.partition(".")[0]
        assert host in services
        key = worker.api_key.get_secret_value()
        found[host] = (worker.tags, worker.max_model_len, key)
    assert found == {
        "qwythos-gateway-short": ({"short"}, 262_144, "key-of-pool-short"),
        "qwythos-gateway-long": ({"long"}, 1_010_000, "key-of-pool-long"),
    }


def test_workers_elsewhere_are_a_name_or_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"name": "keys", "key": "k"}
    asked = {"engine": "sglang", "tags": ["short"]}
    workers = [
        {"name": "one", "url": "https://w:8443", "apiKeySecret": secret, "settings": asked},
        {"name": "many", "url": "http://many:8000", "eachAddress": True},
    ]
    opened = {"externalWorkers": {"ports": [8000, 8443]}}
    release = Release(with_values("minimal", externalWorkers=workers, networkPolicy=opened))
    settings = installed(release, tmp_path, monkeypatch)
    (one,) = settings.workers
    assert (one.name, one.engine, one.tags) == ("w:8443", "sglang", {"short"})
    assert one.api_key is not None
    assert one.api_key.get_secret_value() == "key-of-external-one"
    assert [worker.name for worker in settings.workers_dns] == ["many:8000"]


@pytest.mark.parametrize(
    ("changes", "sharers"),
    [
        ({"gateway": {"replicas": 2, "processes": 4}}, 8),
        ({"autoscaling": {"mode": "hpa", "maxReplicas": 10}}, 10),
    ],
)
def test_limits_are_shared_among_the_most_processes_that_may_be(
    changes: dict[str, Any], sharers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = installed(Release(with_values("minimal", **changes)), tmp_path, monkeypatch)
    assert settings.replicas == sharers


@every_set
def test_every_variable_is_a_setting_and_none_holds_a_secret(name: str) -> None:
    """`GATEWAY_SMOKE_...` are those of a command."""
    known = {f"GATEWAY_{field.upper()}" for field in Settings.model_fields} | {"GATEWAY_CONFIG"}
    files = {f"GATEWAY_{secret.upper()}_FILE" for secret in SECRETS}
    release = release_of(name)
    assert release.of_kind("Secret") == []
    for pod in release.pods():
        for container in pod.containers:
            for variable in container.get("env", ()):
                if variable["name"].startswith("GATEWAY_SMOKE_"):
                    continue
                if variable["name"].startswith("GATEWAY_"):
                    assert variable["name"] in known | files
                if variable["name"] in files:
                    assert variable["value"].startswith(SECRET_DIRECTORY + "/")
                if variable["name"].endswith(("_KEY", "_TOKEN", "_PASSWORD", "_PEPPER")):
                    assert set(variable) == {"name", "valueFrom"}


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_no_secret_is_taken_into_the_config_map(secret: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=f"{secret}: a secret does not belong"):
        Release(with_values("minimal", gateway={"config": {secret: "s"}}))


def test_every_secret_may_come_from_the_secret() -> None:
    keys = {name: name.lower() for name in EXAMPLES}
    container = (
        Release(with_values("minimal", secrets={"keys": keys})).pod("gateway").containers[-1]
    )
    files = {variable["name"] for variable in container["env"]} - {"GATEWAY_CONFIG"}
    assert files == {f"GATEWAY_{secret.upper()}_FILE" for secret in SECRETS}


def test_the_schema_knows_every_setting() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    known = schema["definitions"]
    assert known["setting"]["enum"] == sorted(Settings.model_fields)
    of_workers = set(WorkerSettings.model_fields) - {"url", "api_key"}
    assert known["workerSetting"]["enum"] == sorted(of_workers)


@every_set
def test_every_command_is_one_that_the_gateway_has(name: str) -> None:
    commands = 0
    for pod in release_of(name).pods():
        for container in pod.containers:
            if "qwythos-gateway" not in container["image"] or "args" not in container:
                continue
            read(container["args"])
            commands += 1
    assert commands >= 2


def test_a_changed_setting_restarts_the_pods() -> None:
    def checksum(**config: object) -> str:
        release = Release(with_values("minimal", gateway={"config": config}))
        metadata = release.one("StatefulSet", "qwythos-gateway")["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/config"])

    assert checksum() == checksum()
    assert checksum(log_level="debug") != checksum()


def test_settings_of_the_operator_reach_the_file() -> None:
    config = release_of("gpu").one("ConfigMap", "qwythos-gateway")["data"]["config.yaml"]
    assert yaml.safe_load(config)["trusted_proxies"] == ["10.0.0.0/8"]
