"""The records of a spool, for tests: read in the plainest way."""

from dataclasses import dataclass, field
from pathlib import Path

from app.audit.chain import ChainHead
from app.audit.content.nodes import StoredMessage, read_message_payload
from app.audit.records import AuditIntent, AuditOutcome
from app.audit.spool.disk import Disk, RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.payloads import PayloadUnreadable, decode_intent, decode_outcome
from tests.support.spool_reading import chain_of, read_spool


@dataclass(slots=True)
class Spooled:
    """Records by request, each as often as it is there; messages by address."""

    intents: dict[str, list[AuditIntent]] = field(default_factory=dict)
    outcomes: dict[str, list[AuditOutcome]] = field(default_factory=dict)
    messages: dict[bytes, StoredMessage] = field(default_factory=dict)
    checkpoints: list[bytes] = field(default_factory=list)
    chain: list[ChainHead] = field(default_factory=list)  # its heads, from its genesis on


def read_records(directory: Path, disk: Disk | None = None) -> Spooled:
    """Of all segments, each up to its first damage; but those that cannot be decoded."""
    frames = read_spool(disk or RealDisk(), directory)
    spooled = Spooled(chain=chain_of(frames))
    for frame in frames:
        try:
            _take(frame, spooled)
        except PayloadUnreadable:
            continue
    return spooled


def _take(frame: Frame, spooled: Spooled) -> None:
    if frame.kind == FrameKind.INTENT:
        intent = decode_intent(frame.payload)
        spooled.intents.setdefault(intent.request_id, []).append(intent)
    elif frame.kind == FrameKind.OUTCOME:
        outcome = decode_outcome(frame.payload)
        spooled.outcomes.setdefault(outcome.request_id, []).append(outcome)
    elif frame.kind == FrameKind.MESSAGE:
        message = read_message_payload(frame.payload)
        spooled.messages[message.address] = message
    elif frame.kind == FrameKind.CHECKPOINT:
        spooled.checkpoints.append(frame.payload)


def read_segments(directory: Path) -> dict[str, bytes]:
    """The bytes of each, by its name."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.spool"))}
