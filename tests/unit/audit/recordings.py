"""A recorder on a real spool, whose disk is in memory and fails when a test says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from app.audit.content.nodes import StoredMessage, TenantAddresses, read_message_payload
from app.audit.content.redaction import Redaction
from app.audit.content.stored_today import StoredToday
from app.audit.open_metadata import OpenMetadata
from app.audit.recorder import Recorder
from app.audit.recording import Recording
from app.audit.records import AuditIntent, AuditLevel, AuditOutcome, Outcome
from app.audit.running_answer import Keeping, Thoughts
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.log import SpoolLog
from app.audit.spool.payloads import decode_intent, decode_outcome
from app.audit.spool.writer import SpoolWriter
from app.protocol.request import ChatRequest, Json
from app.telemetry.metrics import Metrics
from tests.support.faulty_disk import FaultyDisk
from tests.support.spool_reading import read_spool

DIRECTORY = Path("/spool")
SEGMENT_BYTES = 1024 * 1024
TENANT = "acme"
WRITE_SECONDS = 60.0  # until a write counts as one of a disk that hangs; only spent on failure
HANGING_SECONDS = 0.5  # where a test's disk does hang
HELLO: Json = {"model": "qwythos", "messages": [{"role": "user", "content": "Hello!"}]}


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Desk:
    """What a test has of it all."""

    disk: FaultyDisk
    writer: SpoolWriter
    recorder: Recorder
    metrics: Metrics
    clock: Clock
    _numbers: list[int] = field(default_factory=list)

    def recording(
        self,
        sent: Json | None = None,
        *,
        level: AuditLevel = AuditLevel.FULL,
        may_go_on: bool = False,
        thoughts: Thoughts | None = None,
        body_bytes: int | None = None,
    ) -> Recording:
        """Of a request with the next id: `req_0`, `req_1` and so on."""
        sent = HELLO if sent is None else sent
        request_id = f"req_{len(self._numbers)}"
        self._numbers.append(0)
        intent = AuditIntent(request_id, 0.0, "/v1/chat/completions", tenant=TENANT, level=level)
        return Recording(
            self.recorder,
            intent,
            asked(sent, body_bytes=body_bytes),
            thoughts=thoughts,
            may_go_on=may_go_on,
        )

    @property
    def frames(self) -> list[Frame]:
        """But those by which segments begin."""
        frames = read_spool(self.disk.disk, DIRECTORY)
        return [frame for frame in frames if frame.kind != FrameKind.SEGMENT]

    @property
    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [orjson.loads(f.payload) for f in self.frames if f.kind == FrameKind.CHUNK]

    @property
    def intents(self) -> list[str]:
        return [
            decode_intent(f.payload).request_id for f in self.frames if f.kind == FrameKind.INTENT
        ]

    @property
    def outcomes(self) -> dict[str, AuditOutcome]:
        """By request; one of them has only one."""
        outcomes = [decode_outcome(f.payload) for f in self.frames if f.kind == FrameKind.OUTCOME]
        found = {outcome.request_id: outcome for outcome in outcomes}
        assert len(found) == len(outcomes)
        return found

    @property
    def messages(self) -> dict[str, StoredMessage]:
        """By address in hexadecimal digits."""
        read = [read_message_payload(f.payload) for f in self.frames if f.kind == FrameKind.MESSAGE]
        return {message.address.hex(): message for message in read}

    def text_of(self, address: str | None) -> Any:
        """The JSON of a message that is stored."""
        assert address is not None
        text = self.messages[address].text()
        assert text is not None
        return orjson.loads(text)

    @property
    def written(self) -> bytes:
        return b"".join(frame.payload for frame in self.frames)

    def counted(self, name: str) -> float:
        for line in self.metrics.render()[0].decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


def asked(sent: Json, *, body_bytes: int | None = None) -> ChatRequest:
    size = len(orjson.dumps(sent)) if body_bytes is None else body_bytes
    messages = tuple(sent.get("messages", ()))
    return ChatRequest("qwythos", messages, body_bytes=size, n=sent.get("n", 1), sent=sent)


def outcome(request_id: str, ended: Outcome = Outcome.COMPLETED) -> AuditOutcome:
    return AuditOutcome(request_id, ended, 200, tenant=TENANT)


@asynccontextmanager
async def desk(
    disk: FaultyDisk | None = None,
    *,
    strict: bool = False,
    chunk_seconds: float = 3_600.0,
    redaction: Redaction | None = None,
    write_seconds: float = WRITE_SECONDS,
    queue_bytes: int = 64 * 1024 * 1024,
    max_open_records: int = 100,
) -> AsyncIterator[Desk]:
    """The disk is tried again at once."""
    disk = FaultyDisk() if disk is None else disk
    writer = SpoolWriter(
        DIRECTORY,
        disk,
        writer="ab" * 16,
        segment_bytes=SEGMENT_BYTES,
        retry_seconds=0.01,
        queue_bytes=queue_bytes,
    )
    metrics = Metrics(CollectorRegistry())
    spool = SpoolLog(writer, metrics, write_seconds=write_seconds)
    clock = Clock()
    rules = Redaction() if redaction is None else redaction
    recorder = Recorder(
        spool,
        TenantAddresses(b"pepper"),
        StoredToday(100, clock),
        lambda: rules,
        OpenMetadata(spool, metrics, max_records=max_open_records),
        Keeping(strict=strict, chunk_seconds=chunk_seconds, chunk_characters=100),
        clock,
    )
    try:
        yield Desk(disk, writer, recorder, metrics, clock)
    finally:
        disk.heal()
        await writer.close()
