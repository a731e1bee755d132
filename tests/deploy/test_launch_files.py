"""The launch files of vLLM, SGLang and Transformers say what the rest of the repository says."""

import configparser
import json
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import load_settings
from app.sizing.gpus import GPUS
from app.sizing.model import KvType
from app.sizing.plan import Deployment, calculate
from app.sizing.serve_command import SHUTDOWN_SECONDS, serve_command
from app.upstream.engines import SAMPLING_DEFAULTS
from tests.deploy.chart_release import release_of
from tests.deploy.compose import services
from tests.deploy.launch_files import DEPLOY, ENGINES, documents, launch_file, workers_of

# Where each listens, and the memory of the host for a cache: what `gateway plan` does not say.
BESIDE_THE_PLAN = {"host", "port", "kv-offloading-size"}


def planned(tensor_parallel: int, context_tokens: int) -> dict[str, Any]:
    """The flags of `gateway plan` for H100, as a launch file writes them."""
    deployment = Deployment(GPUS["h100"], tensor_parallel, KvType.BF16, context_tokens)
    parts = serve_command(
        calculate(deployment), model="MODEL", served_name="qwythos", sampling=SAMPLING_DEFAULTS
    )
    words = shlex.split(" ".join(parts))[3:]
    flags: dict[str, Any] = {}
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--")
            flags[name] = True
        else:
            flags[name] = json.loads(word) if word[0] in "{0123456789" else word
    del flags["api-key"]  # of the environment
    return flags


def said_of(arguments: list[str]) -> dict[str, Any]:
    """`--flag=value` and `--flag`, as a launch file writes them."""
    pairs = (argument.removeprefix("--").partition("=") for argument in arguments)
    return {flag: yaml.safe_load(value) if is_set else True for flag, is_set, value in pairs}


@pytest.mark.parametrize(
    ("name", "tensor_parallel", "context_tokens"),
    [("short", 1, 262_144), ("long", 4, 1_010_000)],
)
def test_a_pools_flags_are_those_that_gateway_plan_calculates(
    name: str, tensor_parallel: int, context_tokens: int
) -> None:
    flags = launch_file(f"vllm/{name}.yaml")
    assert flags.pop("model") == "empero-ai/Qwythos-9B-Claude-Mythos-5-1M"
    said = {flag: value for flag, value in flags.items() if flag not in BESIDE_THE_PLAN}
    assert said == planned(tensor_parallel, context_tokens)


@pytest.mark.parametrize("name", ["short", "long"])
def test_a_pool_of_the_chart_is_started_with_the_same_flags(name: str) -> None:
    (args,) = (
        pod.containers[0]["args"]
        for pod in release_of("gpu").pods()
        if pod.name == f"qwythos-gateway-{name}"
    )
    flags = said_of(args[1:])
    assert flags.pop("revision")  # pinned there: the repository knows none
    assert flags.pop("tensor-parallel-size") == launch_file(f"vllm/{name}.yaml").get(
        "tensor-parallel-size", 1
    )
    expected = launch_file(f"vllm/{name}.yaml")
    expected.pop("tensor-parallel-size", None)
    assert {"model": args[0], **flags} == expected


def test_the_worker_of_compose_is_started_with_the_flags_of_the_short_pool() -> None:
    model, *arguments = services("gpu")["worker-gpu"]["command"]
    expected = launch_file("vllm/short.yaml")
    inside = {"host", "port"}  # of a network that only the gateway is on, and vLLM's defaults
    assert {"model": model, **said_of(arguments)} == {
        flag: value for flag, value in expected.items() if flag not in inside
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_the_workers_of_a_readme_are_read_as_they_stand(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "worker-key"
    key.write_text("a-key-of-the-workers")
    text = json.dumps(workers_of(engine)).replace("/run/secrets/worker-key", str(key))
    monkeypatch.setenv("GATEWAY_WORKERS", text)
    workers = load_settings().workers
    assert {worker.engine for worker in workers} == {engine}
    for worker in workers:
        secret = worker.api_key and worker.api_key.get_secret_value()
        assert secret == (None if engine == "transformers" else "a-key-of-the-workers")


def test_the_short_pool_is_tagged_and_each_launch_file_has_a_worker_in_the_readme() -> None:
    tags = [worker["tags"] for worker in workers_of("vllm")]
    assert tags == [["short"], ["long"]]


def test_a_worker_of_sglang_has_the_context_and_the_parsers_of_vllms() -> None:
    sglang, vllm = launch_file("sglang/long.yaml"), launch_file("vllm/long.yaml")
    same = {
        "context-length": "max-model-len",
        "tp-size": "tensor-parallel-size",
        "max-running-requests": "max-num-seqs",
        "model-path": "model",
    }
    assert {name: sglang[name] for name in same} == {name: vllm[same[name]] for name in same}
    for name in ("served-model-name", "port", "reasoning-parser", "tool-call-parser"):
        assert sglang[name] == vllm[name], name
    # Of these the gateway's telemetry and its limits know nothing otherwise.
    assert sglang["enable-metrics"] is sglang["enable-cache-report"] is True


def test_sglangs_container_starts_it_with_a_file_and_shows_its_key_to_nobody() -> None:
    (document,) = documents("sglang/compose.yaml")
    service = document["services"]["sglang"]
    assert service["command"][-2:] == ["--config", "/worker.yaml"]
    assert "api-key" not in launch_file("sglang/long.yaml")
    (port,) = service["ports"]
    assert port.startswith("${WORKER_ADDRESS:?")  # never on every address unasked
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == launch_file("sglang/long.yaml")["tp-size"]


def test_systemd_lets_a_worker_finish_what_runs() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # its names have capitals
    unit.read_string((DEPLOY / "vllm" / "vllm@.service").read_text("utf-8"))
    service = unit["Service"]
    assert service["ExecStart"].endswith("vllm serve --config /etc/vllm/%i.yaml")
    assert int(service["TimeoutStopSec"]) > SHUTDOWN_SECONDS
    assert service["EnvironmentFile"]  # the key is not on the command line


def test_no_launch_file_holds_a_key() -> None:
    for path in sorted(DEPLOY.glob("vllm/*")):
        for line in path.read_text("utf-8").splitlines():
            assert not line.startswith(("api-key", "VLLM_API_KEY=sk")), path


class TestLeaderWorkerSet:
    @property
    def templates(self) -> dict[str, Any]:
        worker_set, _ = documents("vllm/lws.yaml")
        template = worker_set["spec"]["leaderWorkerTemplate"]
        return {"leader": template["leaderTemplate"], "worker": template["workerTemplate"]}

    @pytest.mark.parametrize("role", ["leader", "worker"])
    def test_its_pods_are_pods(self, role: str) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", **self.templates[role]}
        pod["metadata"] = {"name": role, **pod["metadata"]}
        kubernetes_validate.validate(pod, "1.31", strict=True)

    def test_all_run_the_same_worker_and_the_leader_alone_serves(self) -> None:
        arguments = {
            role: template["spec"]["containers"][0]["args"]
            for role, template in self.templates.items()
        }
        assert arguments["worker"] == [*arguments["leader"], "--headless"]

    def test_its_gpus_are_those_of_its_ranks(self) -> None:
        (worker_set, service) = documents("vllm/lws.yaml")
        size = worker_set["spec"]["leaderWorkerTemplate"]["size"]
        container = self.templates["leader"]["spec"]["containers"][0]
        flags = dict(arg.removeprefix("--").split("=") for arg in container["args"])
        assert flags["nnodes"] == flags["pipeline-parallel-size"] == str(size)
        assert container["resources"]["limits"]["nvidia.com/gpu"] == flags["tensor-parallel-size"]
        assert service["spec"]["selector"] == self.templates["leader"]["metadata"]["labels"]

    def test_it_waits_for_what_runs(self) -> None:
        for template in self.templates.values():
            assert template["spec"]["terminationGracePeriodSeconds"] > SHUTDOWN_SECONDS
