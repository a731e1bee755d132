"""`gateway smoke` against the real vLLM, and through the gateway in front of it."""

import json
import os
import subprocess
from typing import Any

from tests.engine.conftest import GATEWAY, Engine, RunningGateway

SMOKE_SECONDS = 1200
# Sampling may have bad luck; and in a long text the tiny model finds nothing, and often has nothing
# to say of it.
MAY_WARN = {"question", "summary", "16k", "32k"}


def smoke(url: str, key: str | None = None) -> dict[str, dict[str, Any]]:
    environment = {"PATH": os.environ["PATH"]}
    if key is not None:
        environment["GATEWAY_SMOKE_API_KEY"] = key
    done = subprocess.run(
        [GATEWAY, "smoke", url, "--from", "16k", "--max-context", "32k", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SMOKE_SECONDS,
    )
    found = {step["step"]: step for step in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout + done.stderr
    return found


def assert_walked(found: dict[str, dict[str, Any]]) -> None:
    for step in found.values():
        allowed = {"ok", "warning"} if step["step"] in MAY_WARN else {"ok", "skipped"}
        assert step["status"] in allowed, step
    assert found["reach"]["figures"]["context_tokens"] == 1_010_000
    assert found["1M"]["status"] == "skipped"


def test_a_bare_vllm_is_walked(engine: Engine) -> None:
    found = smoke(f"{engine.url}/v1")
    assert_walked(found)
    assert found["reach"]["figures"]["gateway"] is False
    assert found["thought"]["detail"] == "is split off"
    for rung, tokens in (("16k", 16_384), ("32k", 32_768)):
        assert found[rung]["figures"]["cached_tokens"] > 0.9 * tokens


def test_a_gateway_in_front_of_vllm_is_walked(gateway: RunningGateway) -> None:
    found = smoke(gateway.url, gateway.key)
    assert_walked(found)
    assert found["reach"]["figures"]["gateway"] is True
    assert found["thought"]["detail"].startswith("hidden: ")
