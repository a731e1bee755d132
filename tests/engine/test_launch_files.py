"""The launch files of `deploy/`, read by the parsers of the engines that they are for."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.launch_files import DEPLOY, documents, launch_file
from tests.engine.conftest import ENGINE_SCRIPT

PARSER = Path(__file__).with_name("vllm_serve_arguments.py")
PARSE_SECONDS = 300  # it imports PyTorch; 25 s on two cores with a cold disk
TRANSFORMERS = "transformers.cli.transformers"

POOLS = ("short", "long")


@pytest.fixture(scope="module")
def engine_python() -> str:
    """The interpreter that has vLLM and Transformers."""
    tell = [sys.executable, "-c", "import engine; print(engine.prepare().python)"]
    done = subprocess.run(
        tell, cwd=ENGINE_SCRIPT.parent, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def parsed(engine_python: str) -> dict[str, dict[str, Any]]:
    """What vLLM 0.32 takes each file for, and the arguments of a leader of lws.yaml, whose nodes
    the example has not got."""
    arguments = {pool: ["--config", str(DEPLOY / "vllm" / f"{pool}.yaml")] for pool in POOLS}
    worker_set = documents("vllm/lws.yaml")[0]["spec"]["leaderWorkerTemplate"]
    nodes = worker_set["workerTemplate"]["spec"]["containers"][0]["args"]
    arguments["nodes"] = [
        *arguments["long"],
        *(argument.replace("$(LWS_WORKER_INDEX)", "1") for argument in nodes[1:]),
    ]
    done = subprocess.run(
        [engine_python, PARSER],
        input=json.dumps(list(arguments.values())),
        capture_output=True,
        text=True,
        timeout=PARSE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(arguments, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("pool", POOLS)
def test_vllm_takes_every_flag_of_a_file_for_what_it_says(
    pool: str, parsed: dict[str, dict[str, Any]]
) -> None:
    said = {
        name.replace("-", "_"): value for name, value in launch_file(f"vllm/{pool}.yaml").items()
    }
    said["served_model_name"] = [said["served_model_name"]]
    assert said.items() <= parsed[pool].items()


def test_nothing_that_the_model_must_not_have_is_on(parsed: dict[str, dict[str, Any]]) -> None:
    for found in parsed.values():
        assert found.get("speculative_config") is None
        assert found.get("default_chat_template_kwargs") is None
        assert found["kv_cache_dtype"] == "auto"
        assert found.get("data_parallel_size", 1) == 1


def test_a_second_node_is_told_what_the_flags_are_called(
    parsed: dict[str, dict[str, Any]],
) -> None:
    nodes = parsed["nodes"]
    assert (nodes["nnodes"], nodes["node_rank"], nodes["headless"]) == (2, 1, True)
    assert (nodes["tensor_parallel_size"], nodes["pipeline_parallel_size"]) == (2, 2)
    assert nodes["master_addr"] == "$(LWS_LEADER_ADDRESS)"


def test_transformers_knows_the_flags_of_its_readme(engine_python: str) -> None:
    readme = (DEPLOY / "transformers" / "README.md").read_text("utf-8")
    (command,) = re.findall(r"^    transformers serve (.*)$", readme, re.MULTILINE)
    done = subprocess.run(
        [engine_python, "-m", TRANSFORMERS, "serve", "--help"],
        capture_output=True,
        text=True,
        timeout=PARSE_SECONDS,
    )
    known = set(re.findall(r"--[a-z-]+", done.stdout))
    assert {flag for flag in command.split() if flag.startswith("--")} <= known, done.stderr
