"""The records of a spool, for tests: read in the plainest way."""

from dataclasses import dataclass, field
from pathlib import Path

from app.audit.records import AuditIntent, AuditOutcome
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import PayloadUnreadable, decode_intent, decode_outcome
from tests.support.spool_reading import read_spool


@dataclass(slots=True)
class Spooled:
    """By request, each as often as it is there."""

    intents: dict[str, list[AuditIntent]] = field(default_factory=dict)
    outcomes: dict[str, list[AuditOutcome]] = field(default_factory=dict)


def read_records(directory: Path, disk: Disk | None = None) -> Spooled:
    """Of all segments, each up to its first damage; but those that cannot be decoded."""
    spooled = Spooled()
    for frame in read_spool(disk or RealDisk(), directory):
        try:
            if frame.kind == FrameKind.INTENT:
                intent = decode_intent(frame.payload)
                spooled.intents.setdefault(intent.request_id, []).append(intent)
            elif frame.kind == FrameKind.OUTCOME:
                outcome = decode_outcome(frame.payload)
                spooled.outcomes.setdefault(outcome.request_id, []).append(outcome)
        except PayloadUnreadable:
            continue
    return spooled


def read_segments(directory: Path) -> dict[str, bytes]:
    """The bytes of each, by its name."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.spool"))}
