"""Child processes: started, asked for lines, and weighed from outside."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

START_SECONDS = 20.0  # until a server listens
STOP_SECONDS = 15.0  # between asking a process to end and ending it
LINE_BYTES = 64 * 1024 * 1024  # a load's result may hold many figures
LINUX = sys.platform == "linux"


class ChildFailed(Exception):
    """A process that the benchmark needs did not start or ended; the text says which and why."""


def python_module(name: str) -> tuple[str, ...]:
    """The command that runs a module of ours."""
    return sys.executable, "-m", name


@asynccontextmanager
async def child(
    *command: str | Path, environment: dict[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the block. With `log`, what it says goes there."""
    with (log or Path("/dev/null")).open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if log is None else output,
            stderr=None if log is None else output,
            env=environment,
            limit=LINE_BYTES,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def read_line(process: asyncio.subprocess.Process, name: str) -> bytes:
    line = b"" if process.stdout is None else await process.stdout.readline()
    if not line:
        raise ChildFailed(f"{name} ended with {await process.wait()}")
    return line


async def write_line(process: asyncio.subprocess.Process, line: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(line + b"\n")
        await process.stdin.drain()


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def until_listening(
    port: int, process: asyncio.subprocess.Process, name: str, log: Path
) -> None:
    """Raises ChildFailed, with the end of its log, where it does not come up."""
    deadline = time.monotonic() + START_SECONDS
    while process.returncode is None and time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return
    said = await asyncio.to_thread(log.read_text, "utf-8", "replace")
    raise ChildFailed(f"{name} does not listen on port {port}:\n{said[-2000:]}")


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    ).stdout
    parents = [(int(line.split()[0]), int(line.split()[1])) for line in listing.splitlines()]
    members = [pid]
    for member in members:  # grows while it is walked
        members += [child for child, parent in parents if parent == member]
    return members


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that these processes have had, all their threads together."""
    return sum(_cpu_seconds(pid) for pid in pids)


def _cpu_seconds(pid: int) -> float:
    if LINUX:
        # What clock_getcpuclockid(3) makes of a pid: nanoseconds, where /proc counts in ticks
        # of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    spent = _ps(pid, "time").replace("-", ":").split(":")  # [[days:]hours:]minutes:seconds
    units = (1, 60, 3600, 86400)
    return sum(float(part) * unit for part, unit in zip(reversed(spent), units, strict=False))


def resident_mib(pids: list[int]) -> float:
    """Memory of these processes, shared pages by their share where the system tells it."""
    if LINUX:
        kib = sum(_proportional_kib(pid) for pid in pids)
    else:
        kib = sum(int(_ps(pid, "rss")) for pid in pids)
    return kib / 1024


def _proportional_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ChildFailed(f"process {pid} tells no memory")


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-p", str(pid), "-o", f"{column}="]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
