"""A real vLLM with the tiny model, the gateway as a process of its own, and the OpenAI SDK."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openai import OpenAI

from tests.deploy.launch_files import launch_file
from tests.engine.processes import free_port, started, wait_for_200, wait_until

REPOSITORY = Path(__file__).parents[2]
ENGINE_SCRIPT = REPOSITORY / "deploy" / "vllm-cpu" / "engine.py"
GATEWAY = Path(sys.executable).with_name("gateway")

LONG_POOL = "vllm/long.yaml"
GPU_FLAGS = {"gpu-memory-utilization", "kv-offloading-size"}

# All of these are only spent on failure.
ENGINE_READY_SECONDS = 600  # 28 to 45 on two cores
WARM_UP_SECONDS = 300
GATEWAY_READY_SECONDS = 180
KEY_SECONDS = 60  # from ready to the key on the terminal
COMMAND_SECONDS = 180
RECORD_SECONDS = 60  # until the shipper has brought a record to the database
TELL_SECONDS = 60  # what vLLM's server answers by itself; it shares the cores with a prefill
ANSWER_SECONDS = 300  # 120,000 tokens of prompt took 117 on a processor without AVX-512

# A processor with AVX-512 BF16 reads 100,000 tokens in 9 s, less than the gateway by default
# waits before it says that it waits.
HASTE = {"GATEWAY_COMMIT_AFTER_SECONDS": "1", "GATEWAY_KEEP_ALIVE_COMMENT_SECONDS": "1"}


@dataclass(frozen=True)
class Engine:
    """vLLM itself, asked behind the gateway's back."""

    url: str

    def running_requests(self) -> float:
        return self._total("vllm:num_requests_running")

    def finished_requests(self) -> float:
        """Requests that came to an end of their own; vLLM counts the aborted ones nowhere."""
        return self._total("vllm:request_success_total")

    def read_tokens(self) -> float:
        """Of prompts, since it was started."""
        return self._total("vllm:prompt_tokens_total")

    def count_tokens(self, text: str) -> int:
        return int(self._post("/tokenize", {"prompt": text})["count"])

    def render(self, messages: list[dict[str, Any]], tools: list[Any]) -> tuple[int, str]:
        """How many tokens the chat template makes of a conversation, and its text."""
        tokens = self._post("/tokenize", {"messages": messages, "tools": tools})["tokens"]
        return len(tokens), str(self._post("/detokenize", {"tokens": tokens})["prompt"])

    def _post(self, path: str, asked: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=asked, timeout=TELL_SECONDS)
        return answer.raise_for_status().json()

    def _total(self, metric: str) -> float:
        page = httpx.get(f"{self.url}/metrics", timeout=TELL_SECONDS).raise_for_status()
        lines = page.text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(metric + "{"))


@dataclass(frozen=True)
class RunningGateway:
    port: int
    key: str
    home: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, *key_options: str) -> OpenAI:
        """With the gateway's first key, or with a new one of such a policy."""
        return OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.create_key(*key_options) if key_options else self.key,
            max_retries=0,  # a retry would hide the failure that a test looks for
            timeout=ANSWER_SECONDS,
        )

    def create_key(self, *options: str) -> str:
        command = ("keys", "create", "--name", "test", "--json", *options)
        secret: str = self._command(*command)[0]["secret"]
        return secret

    def cancelled(self, client_request_id: str, seconds: float) -> dict[str, Any]:
        """The audit record of a request whose client left, as soon as there is one."""

        def find() -> dict[str, Any] | None:
            records = self._command("audit", "search", "--outcome", "cancelled", "--json")
            named = (r for r in records if r["client_request_id"] == client_request_id)
            return next(named, None)

        record = wait_until(find, seconds, f"an audit record of {client_request_id}")
        assert record is not None
        return record

    def record(self, request_id: str) -> dict[str, Any]:
        """The audit record of a request that has ended, as soon as there is one."""

        def find() -> dict[str, Any] | None:
            records = self._command("audit", "search", "--json")
            return next((r for r in records if r["request_id"] == request_id), None)

        record = wait_until(find, RECORD_SECONDS, f"an audit record of {request_id}")
        assert record is not None
        return record

    def _command(self, *arguments: str) -> list[dict[str, Any]]:
        environment = os.environ | {"GATEWAY_HOME": str(self.home)}
        done = subprocess.run(
            [GATEWAY, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """GATEWAY_TEST_ENGINE_URL uses one that runs already."""
    if url := os.environ.get("GATEWAY_TEST_ENGINE_URL"):
        yield Engine(url.rstrip("/"))
        return
    with _engine(tmp_path_factory.mktemp("engine") / "vllm.log") as engine:
        yield engine


@pytest.fixture(scope="module")
def second_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Started with `deploy/vllm/long.yaml`, but for the flags that only a GPU has."""
    home = tmp_path_factory.mktemp("engine")
    flags = launch_file(LONG_POOL)
    kept = {name: value for name, value in flags.items() if name not in GPU_FLAGS}
    file = home / "long.yaml"
    file.write_text(yaml.safe_dump(kept))
    with _engine(home / "vllm.log", "--config", str(file)) as engine:
        yield engine


@pytest.fixture(scope="module")
def engine_without_parsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same model from a vLLM that leaves thoughts and tool calls in the text."""
    flags = ("--reasoning-parser", "", "--no-enable-auto-tool-choice")
    with _engine(tmp_path_factory.mktemp("engine") / "vllm.log", *flags) as engine:
        yield engine


@contextmanager
def _engine(log: Path, *flags: str) -> Iterator[Engine]:
    port = free_port()
    command = [sys.executable, str(ENGINE_SCRIPT), "serve", "--die-with-parent", "--port"]
    with started([*command, str(port), "--", *flags], log, {}) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_200(process, f"{url}/health", log, ENGINE_READY_SECONDS)
        # The first request of a fresh vLLM takes some 8 s more than any later one.
        warm_up = {"prompt": "Hello!", "max_tokens": 1}
        httpx.post(f"{url}/v1/completions", json=warm_up, timeout=WARM_UP_SECONDS)
        yield Engine(url)


@pytest.fixture(scope="session")
def gateway(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with start_gateway(engine.url, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@contextmanager
def start_gateway(
    worker: object, home: Path, *others: object, name: str = "gateway"
) -> Iterator[RunningGateway]:
    """A gateway with a worker or several: URLs, or objects of settings. Those with the same home
    are replicas: they share a database, a pepper and so their keys."""
    log = home / f"{name}.log"
    port = free_port()
    environment = HASTE | {
        "GATEWAY_WORKERS": json.dumps([worker, *others]),
        "GATEWAY_HOME": str(home),
    }
    with started([str(GATEWAY), "dev", "--port", str(port)], log, environment) as process:
        wait_for_200(process, f"http://127.0.0.1:{port}/readyz", log, GATEWAY_READY_SECONDS)
        keys = wait_until(
            lambda: re.findall(r"^\s*(sk-qw-\S+)\s*$", log.read_text("utf-8"), re.MULTILINE),
            KEY_SECONDS,
            f"a key on a line of its own in {log}",
        )
        yield RunningGateway(port, keys[0], home)


@pytest.fixture(scope="session")
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with gateway.client() as sdk:
        yield sdk
