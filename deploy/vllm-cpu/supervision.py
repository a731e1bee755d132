"""Runs vLLM so that it ends, with all of its workers, whenever we do."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

END_SECONDS = 20  # measured: 2, and 5 while it starts
REPEAT_SECONDS = 3
WORKERS_END_SECONDS = 5  # once vLLM's own process has ended
POLL_SECONDS = 0.1
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where vLLM puts it

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def run(command: list[str], environment: Mapping[str, str], *, die_with_parent: bool) -> int:
    """Returns vLLM's exit code. SIGTERM or SIGINT ends it, and with `die_with_parent` also the
    end of our own parent: 7 GB must not outlive tests that were killed."""
    if die_with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="vllm-") as temporary:
        own = dict(environment) | {"TMPDIR": temporary}
        # A session of its own: its workers can be found by it, and Ctrl-C comes through us alone.
        vllm = subprocess.Popen(command, env=own, start_new_session=True)
        try:
            return vllm.wait()
        finally:
            _end(vllm)
            _remove_shared_memory(Path(temporary))


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _end(vllm: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # this is bounded, and must not be cut short
    deadline = time.monotonic() + END_SECONDS
    while vllm.poll() is None and time.monotonic() < deadline:
        vllm.terminate()  # again, because vLLM sometimes loses one that comes while it starts
        with contextlib.suppress(subprocess.TimeoutExpired):  # then once more
            vllm.wait(REPEAT_SECONDS)
    deadline = time.monotonic() + WORKERS_END_SECONDS
    while vllm.poll() is not None and _has_members(vllm.pid) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    # Without its server the engine goes on, whatever ended that.
    with contextlib.suppress(ProcessLookupError):  # none is left
        os.killpg(vllm.pid, signal.SIGKILL)
    vllm.wait()


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _remove_shared_memory(temporary: Path) -> None:
    """vLLM leaves 8 MB behind at each end: under the name of a file that it leaves too."""
    for name in temporary.glob("vllm_dist_*"):
        for left_over in SHARED_MEMORY.glob(f"{name.name}-*"):
            left_over.unlink(missing_ok=True)
