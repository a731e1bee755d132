"""The launch files of `deploy/`, and what the READMEs beside them say of such workers."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
ENGINES = ("vllm", "sglang", "transformers")
_WORKERS = re.compile(r"```json\n(.*?)```", re.DOTALL)


def launch_file(name: str) -> dict[str, Any]:
    """`vllm/short.yaml`: its flags, without their dashes."""
    flags: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text("utf-8"))
    return flags


def documents(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((DEPLOY / name).read_text("utf-8"))]


def workers_of(engine: str) -> list[dict[str, Any]]:
    """What the engine's README gives for GATEWAY_WORKERS."""
    (block,) = _WORKERS.findall((DEPLOY / engine / "README.md").read_text("utf-8"))
    workers: list[dict[str, Any]] = json.loads(block)
    return workers
