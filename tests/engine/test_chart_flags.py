"""The arguments that the chart starts `vllm serve` with, read by vLLM's own parser."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart_release import release_of
from tests.engine.conftest import ENGINE_SCRIPT

PARSER = Path(__file__).with_name("vllm_serve_arguments.py")
PARSE_SECONDS = 300  # it imports PyTorch; 25 s on two cores with a cold disk


@pytest.fixture(scope="module")
def pools() -> dict[str, dict[str, Any]]:
    """By the name of a pool, what vLLM takes its arguments for."""
    engine = [sys.executable, "-c", "import engine; print(engine.prepare().python)"]
    python = subprocess.run(
        engine, cwd=ENGINE_SCRIPT.parent, check=True, capture_output=True, text=True
    ).stdout.strip()
    workers = {
        pod.name.rpartition("-")[2]: pod.containers[0]["args"]
        for pod in release_of("gpu").pods()
        if pod.component == "worker"
    }
    done = subprocess.run(
        [python, PARSER],
        input=json.dumps(list(workers.values())),
        capture_output=True,
        text=True,
        timeout=PARSE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(workers, json.loads(done.stdout), strict=True))


def test_every_flag_is_one_of_vllms_and_means_what_the_values_say(
    pools: dict[str, dict[str, Any]],
) -> None:
    assert set(pools) == {"short", "long"}
    for pool in pools.values():
        said = {
            "model_tag": "empero-ai/Qwythos-9B-Claude-Mythos-5-1M",
            "served_model_name": ["qwythos"],
            "language_model_only": True,
            "reasoning_parser": "qwen3",
            "enable_auto_tool_choice": True,
            "tool_call_parser": "qwen3_coder",
            "enable_prompt_tokens_details": True,
            "shutdown_timeout": 600,
            "disable_fastapi_docs": True,
            "port": 8000,
        }
        assert said.items() <= pool.items()
        assert pool["override_generation_config"] == {
            "temperature": 0.6,
            "top_p": 0.95,
            "top_k": 20,
            "repetition_penalty": 1.05,
        }
    short, long = pools["short"], pools["long"]
    sizes = ("max_model_len", "tensor_parallel_size", "max_num_seqs", "max_num_queued_reqs")
    assert [short[size] for size in sizes] == [262_144, 1, 47, 70]
    assert [long[size] for size in sizes] == [1_010_000, 4, 8, 10]
    assert (short["max_num_queued_tokens"], long["max_num_queued_tokens"]) == (1_370_000, 1_520_000)
    assert long["kv_offloading_size"] == 256
