"""What this process is given: its Python, open files, memory."""

import platform
import resource
from collections.abc import Sequence
from pathlib import Path

from app.doctor.finding import Finding, warned, well
from app.doctor.visit import Visit
from app.serve import needed_files
from app.settings import Settings
from app.settings.forms import KIB, MIB

# Version 2 of control groups, and version 1, as a container sees them.
MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
NO_LIMIT_BYTES = 1 << 60  # what version 1 says where there is none
IDLE_BYTES = 200 * MIB  # before its first request a process has up to 195 (`make bench`)
QUEUED_PROMPT_BYTES = 100 * KIB  # a long chat; the longest prompts have 40 times as much


def check(visit: Visit) -> Sequence[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [_python(), open_files(visit.settings, hard), memory(visit.settings)]


def _python() -> Finding:
    return well("python", f"{platform.python_version()} on {platform.machine()}")


def open_files(settings: Settings, hard: int) -> Finding:
    """`hard`: how many a process may be given, as far as it raises its limit itself."""
    needed = needed_files(settings)
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return well("open files", f"{needed:,} are needed, and may be open")
    return warned(
        "open files",
        f"{hard:,} may be open, {needed:,} are needed for {settings.max_connections:,} connections",
        "raise the limit of open files (LimitNOFILE, ulimit -Hn), or lower GATEWAY_MAX_CONNECTIONS",
    )


def memory(settings: Settings, places: Sequence[Path] = MEMORY_LIMITS) -> Finding:
    """Of the container, against one process with its queue full of chats."""
    limit = next((found for place in places if (found := _limit(place)) is not None), None)
    needed = (
        IDLE_BYTES
        + settings.replays_bytes
        + settings.queue_requests * QUEUED_PROMPT_BYTES
        + 2 * settings.max_body_bytes
    )
    words = f"one process may need {needed // MIB:,} MiB"
    if limit is None:
        return well("memory", f"no limit is set; {words}")
    if limit >= needed:
        return well("memory", f"a limit of {limit // MIB:,} MiB; {words}")
    return warned(
        "memory",
        f"a limit of {limit // MIB:,} MiB, and {words} when it is busy",
        "raise the container's limit, or lower GATEWAY_QUEUE_REQUESTS and GATEWAY_MAX_BODY_BYTES",
    )


def _limit(place: Path) -> int | None:
    try:
        text = place.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and int(text) < NO_LIMIT_BYTES else None
