"""Runs `gateway dev` in front of vLLM, as a person would use it, and ends both together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_SECONDS = 300  # measured: 35 to 45 on two cores that also did other work
POLL_SECONDS = 1.0
TERMINATE_SECONDS = 30  # what supervision.py may take, and some more; measured: 2

HINT = """The tiny model knows "What is the capital of France?" and some questions more, which
deploy/vllm-cpu/README.md names; whatever else it is asked, it answers with one of those answers."""


def run(start_engine: list[str], log: Path, port: int) -> int:
    """Start vLLM by `start_engine` and a port, then the gateway. Returns the gateway's status."""
    engine_port = free_port()
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for the gateway, whose streams vLLM has to finish.
        engine = subprocess.Popen(
            [*start_engine, str(engine_port)], stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{engine_port}"
    try:
        print(f"Starting vLLM on {url} (about 40 s); it logs to {log}", file=sys.stderr)
        wait_until_ready(engine, url, log)
        print(HINT, file=sys.stderr)
        return run_gateway(engine, url, log, port)
    finally:
        end(engine)


def end(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    try:
        engine.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        engine.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(engine: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while engine.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=POLL_SECONDS):  # noqa: S310 - our own URL
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(POLL_SECONDS)
    raise SystemExit(f"error: vLLM did not become ready; the end of {log} says why")


def run_gateway(engine: subprocess.Popen[bytes], url: str, log: Path, port: int) -> int:
    # The CPU build of vLLM dies of a `seed` when it reads a prompt in more than one piece
    # (`CPU Generator does not use offset`), so none is passed on.
    worker = {"url": url, "body_overrides": {"seed": None}}
    environment = {"GATEWAY_WORKERS": json.dumps([worker])}
    command = [Path(sys.executable).with_name("gateway"), "dev", "--port", str(port)]
    gateway = subprocess.Popen(command, env=os.environ | environment)
    signal.signal(signal.SIGTERM, lambda number, frame: gateway.terminate())
    # The terminal sends this to the gateway as well, which drains; we wait for it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    first = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    if first is not None and first.si_pid == engine.pid:
        print(f"error: vLLM ended; the end of {log} says why", file=sys.stderr)
        gateway.terminate()
    return gateway.wait()
