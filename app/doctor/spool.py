"""The spool of the audit log: the disk without which no request is taken."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from app.audit.spool.directory import abandoned, open_own
from app.audit.spool.disk import RealDisk
from app.audit.start import spool_root
from app.doctor.finding import Finding, failed, warned, well
from app.doctor.mounts import MOUNTS, file_system_of
from app.doctor.visit import Visit
from app.settings import Settings
from app.settings.forms import KIB, MIB

PROBE_BYTES = 64 * KIB  # the records of some 60 requests, as a busy process writes them at once
SYNCS = 5
# A request waits for two of them: its intent and its outcome.
SLOW_SYNC_SECONDS = 0.05
SEGMENTS = 2  # one that is written, and one kept free: without room for them nothing is taken
LOW_SEGMENTS = 16  # an outage of the database for some million requests
REQUEST_BYTES = KIB  # in the spool, without its texts
# What is kept there is gone with the container, or with the power.
FLEETING = ("tmpfs", "ramfs", "overlay")
ELSEWHERE = "name a directory on a volume in GATEWAY_AUDIT_DIRECTORY"


def check(visit: Visit) -> Sequence[Finding]:
    root = spool_root(visit.settings)
    try:
        sync_seconds = _written(root)
    except OSError as error:
        reason = error.strerror or str(error)
        return [failed("spool", f"{root}: {reason}", f"{ELSEWHERE} that this user may write to")]
    return [_speed(root, sync_seconds), _room(root, visit.settings), kept(root), _leftovers(root)]


def _written(root: Path) -> float:
    """Seconds that a write takes to be on the disk, done as the spool does it. Raises OSError."""
    disk, seconds = RealDisk(), []
    own = open_own(root)
    try:
        probe = own.path / "probe"
        segment = disk.create_segment(probe, SYNCS * PROBE_BYTES)
        try:
            for _ in range(SYNCS):
                begun = time.perf_counter()
                segment.write(bytes(PROBE_BYTES))
                segment.sync()
                seconds.append(time.perf_counter() - begun)
        finally:
            segment.close()
            disk.remove(probe)
        own.remove()
    finally:
        own.close()
    return median(seconds)


def _speed(root: Path, sync_seconds: float) -> Finding:
    words = f"{root} is written; {sync_seconds * 1000:.1f} ms until it is on the disk"
    if sync_seconds < SLOW_SYNC_SECONDS:
        return well("spool", words)
    return warned("spool", words, "take a faster disk: each request waits for it twice")


def _room(root: Path, settings: Settings) -> Finding:
    free = shutil.disk_usage(root).free
    segment = settings.audit_segment_bytes
    requests = f"{free // REQUEST_BYTES:,}"
    words = f"{free // MIB:,} MiB are free, for {requests} requests while the database is away"
    advice = "free some of the disk, or take a larger one"
    if free < SEGMENTS * segment:
        return failed("spool room", f"{words}; {SEGMENTS * segment // MIB} MiB are needed", advice)
    if free < LOW_SEGMENTS * segment:
        return warned("spool room", f"{words}, their texts not counted", advice)
    return well("spool room", f"{words}, their texts not counted")


def kept(root: Path, mounts: Path = MOUNTS) -> Finding:
    """Whether what lies there outlives the process, by what kind of file system it is."""
    kind = file_system_of(root, mounts)
    if kind in FLEETING:
        words = f"{root} is on {kind}: records that are not shipped are lost with the container"
        return warned("spool volume", words, ELSEWHERE)
    if root.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
        words = f"{root} is below {tempfile.gettempdir()}, which is emptied"
        return warned("spool volume", words, ELSEWHERE)
    return well("spool volume", f"{root} is on {kind or 'a file system of unknown kind'}")


def _leftovers(root: Path) -> Finding:
    """Of processes that were killed. They are let go of at once, for a gateway to take over."""
    found = abandoned(root)
    held = sum(_bytes_in(directory.path) for directory in found)
    for directory in found:
        directory.close()
    if not found:
        return well("spool leftovers", "none of processes that died")
    whose = "1 process" if len(found) == 1 else f"{len(found)} processes"
    words = f"{whose} that died left {held / MIB:,.1f} MiB"
    return warned("spool leftovers", words, "start a gateway on this directory: it ships them")


def _bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())
