"""Processes that the tests start for real, and conditions that they wait for."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

POLL_SECONDS = 0.1
TERMINATE_SECONDS = 60  # vLLM ends in 2 s, the gateway when its streams have ended
LOG_TAIL_CHARACTERS = 4000

Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], seconds: float, what: str) -> Value:
    """The condition's first true value. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: list[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, with stdout and stderr in `log`. It is ended by SIGTERM.

    The gateway's settings of whoever runs the tests are kept from it.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=inherited | dict(environment)
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_200(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    """Raises AssertionError with the end of the log when the process dies or takes too long."""

    def answers() -> bool:
        tail = log.read_text("utf-8", "replace")[-LOG_TAIL_CHARACTERS:]
        assert process.poll() is None, f"no server at {url}: exit code {process.returncode}\n{tail}"
        try:
            return httpx.get(url).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    wait_until(answers, seconds, f"200 from {url}; see {log}")
