"""docker-compose.yml: what it starts, with what, and that it fits what it starts."""

import re
from pathlib import PurePosixPath

import pytest
import yaml

from app import __version__
from app.embedded.model import STAND_IN_FILE
from app.embedded.worker import EmbeddedWorker
from app.serve import CLOSE_SECONDS, END_SECONDS
from app.settings import SECRETS, Settings, load_settings
from tests.deploy.commands import read
from tests.deploy.compose import (
    PROFILES,
    ROOT,
    document,
    environment,
    is_ours,
    mounts,
    names_on,
    services,
)
from tests.deploy.dockerfile import parse

ALL = services()
LOOPBACK = re.compile(r"127\.0\.0\.1:[0-9]+:[0-9]+")
STAND_IN_CONTEXT_TOKENS = 8192  # what SmolLM2 was trained with


@pytest.mark.parametrize("name", ALL)
def test_every_image_is_pinned(name: str) -> None:
    image, _, tag = ALL[name]["image"].partition(":")
    assert image
    assert re.match(r"v?[0-9]+\.[0-9]+", tag)
    if is_ours(ALL[name]):
        assert tag == __version__
        assert ALL[name]["build"]["target"] in {"gateway", "embedded-worker"}


@pytest.mark.parametrize("name", ALL)
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    service = ALL[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert service.get("read_only") or name == "worker-gpu"


def test_three_ports_are_open_and_to_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in ALL.items() if "ports" in service}
    assert set(published) == {"gateway", "grafana", "prometheus"}
    assert all(LOOPBACK.fullmatch(port) for ports in published.values() for port in ports)


def test_what_the_database_and_the_workers_are_on_leads_nowhere() -> None:
    networks = document()["networks"]
    assert networks["data"]["internal"]
    assert networks["workers"]["internal"]
    assert {name for name, each in ALL.items() if "data" in each.get("networks", [])} == {
        "gateway", "migrate", "grant", "owner", "postgres", "redis",
    }  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_starts_one_worker_and_the_settings_are_of_that(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = services(profile)
    [worker] = [
        name for name, each in started.items() if "worker" in names_on("workers", each, name)
    ]
    assert started[worker]["profiles"] == [profile]
    gateway = started["gateway"]
    config = environment(gateway, profile)["GATEWAY_CONFIG"]
    monkeypatch.setenv("GATEWAY_CONFIG", str(ROOT / mounts(gateway)[config]))
    [named] = load_settings().workers
    assert named.name == "worker:8000"


def test_without_a_choice_the_small_model_answers() -> None:
    assert "COMPOSE_PROFILES=embedded" in (ROOT / ".env").read_text("utf-8").splitlines()


def test_the_gateway_is_told_of_the_small_model_what_it_finds_out_itself_in_development() -> None:
    found = EmbeddedWorker(
        url="http://worker:8000",
        api_key="",
        model_name=STAND_IN_FILE,
        context_tokens=STAND_IN_CONTEXT_TOKENS,
        opens_thought=True,
        stand_in=True,
    )
    told = yaml.safe_load((ROOT / "deploy" / "compose" / "embedded.yaml").read_text("utf-8"))
    given = Settings.model_validate(told)
    assert given.workers == (found.settings().model_copy(update={"api_key": None}),)
    assert given.default_output_tokens == found.default_output_tokens


@pytest.mark.parametrize("name", ALL)
def test_whatever_is_mounted_is_there(name: str) -> None:
    for source in mounts(ALL[name]).values():
        assert (ROOT / source).exists()


@pytest.mark.parametrize("name", [name for name, service in ALL.items() if is_ours(service)])
def test_every_variable_is_a_setting_and_every_secret_a_file_of_its_own(name: str) -> None:
    secret_files = {f"GATEWAY_{secret.upper()}_FILE" for secret in SECRETS}
    for variable, value in environment(ALL[name], "embedded").items():
        if variable in secret_files:
            assert PurePosixPath(value).parent == PurePosixPath("/run/secrets")
            assert PurePosixPath(value).name in ALL[name]["secrets"]
        else:
            assert variable == "GATEWAY_CONFIG" or (
                variable.removeprefix("GATEWAY_").lower() in Settings.model_fields
            )
            assert variable.removeprefix("GATEWAY_").lower() not in SECRETS


def test_every_secret_that_is_given_to_a_service_is_one_that_there_is() -> None:
    given = {secret for service in ALL.values() for secret in service.get("secrets", [])}
    assert given == set(document()["secrets"])


@pytest.mark.parametrize("name", [name for name, service in ALL.items() if is_ours(service)])
def test_the_command_is_one_that_we_have(name: str) -> None:
    image = parse((ROOT / "Dockerfile").read_text("utf-8"))
    of_the_image = image.last(ALL[name]["build"]["target"], "CMD").exec_form
    read(ALL[name].get("command", of_the_image))


@pytest.mark.parametrize("name", ALL)
def test_what_others_wait_for_says_how_it_is(name: str) -> None:
    for other, wanted in ALL[name].get("depends_on", {}).items():
        if wanted["condition"] == "service_healthy":
            assert ALL[other]["healthcheck"]["test"][0] == "CMD", "a shell is not there everywhere"
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert "restart" not in ALL[other]


def test_the_owner_migrates_and_the_gateways_own_role_cannot() -> None:
    assert ALL["migrate"]["command"] == ["db", "upgrade"]
    assert ALL["grant"]["command"] == ["db", "grant", "gateway"]
    for name in ("migrate", "grant"):
        assert ALL[name]["secrets"] == ["owner_database_url"]
    assert not {"owner_database_url", "owner_password"} & set(ALL["gateway"]["secrets"])


def test_streams_may_end_before_the_gateway_is_killed() -> None:
    grace = ALL["gateway"]["stop_grace_period"]
    longest = load_settings().drain_seconds + END_SECONDS + CLOSE_SECONDS
    assert float(grace.removesuffix("s")) > longest


def test_what_prometheus_asks_is_on_a_network_with_it() -> None:
    mounted = mounts(ALL["prometheus"])["/etc/prometheus"]
    config = yaml.safe_load((ROOT / mounted / "prometheus.yaml").read_text("utf-8"))
    targets = {
        target
        for job in config["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert "gateway:8080" in targets
    ports = {"gateway": "8080", "worker": "8000"}
    for host, _, port in (target.partition(":") for target in targets):
        shared = set(ALL["prometheus"]["networks"]) & set(ALL[host]["networks"])
        assert shared, f"{host} cannot be reached"
        assert port == ports[host]
    for file in config["rule_files"]:
        assert (ROOT / mounted / file).exists()


def test_grafana_finds_its_boards_and_its_prometheus() -> None:
    mounted = mounts(ALL["grafana"])
    provisioning = ROOT / mounted["/etc/grafana/provisioning"]
    [provider] = [
        each
        for file in provisioning.glob("dashboards/*.yaml")
        for each in yaml.safe_load(file.read_text("utf-8"))["providers"]
    ]
    boards = ROOT / mounted[provider["options"]["path"]]
    assert {board.stem for board in boards.glob("*.json")} == {"overview", "latency", "safety"}
    [source] = [
        each
        for file in provisioning.glob("datasources/*.yaml")
        for each in yaml.safe_load(file.read_text("utf-8"))["datasources"]
    ]
    assert source["url"] == "http://prometheus:9090"
