"""A gateway's audit log from its spool to the database, with all that makes it hard to change."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.file_place import FilePlace
from app.audit.checkpoints.keeper import CheckpointKeeper, closing_frames
from app.audit.checkpoints.publisher import Publisher
from app.audit.checkpoints.signing import SigningKeys, derived_signing_keys
from app.audit.content.answers import AnswerOf
from app.audit.content.nodes import ROOT, TenantAddresses, message_payload
from app.audit.log_reader import Part
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.registration import registration
from app.audit.spool.directory import OwnDirectory, open_own
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.spool.shipper import Shipper
from app.audit.spool.writer import SpoolWriter
from app.audit.verify.database import DatabaseVerification
from app.audit.verify.findings import Report
from app.audit.verify.published import PublishedCheckpoints
from app.telemetry.metrics import Metrics
from tests.support.conditions import eventually, eventually_found

KEYS = derived_signing_keys(b"pepper")
ADDRESSES = TenantAddresses(b"pepper")
DEADLINE_SECONDS = 60.0  # only spent on failure
TENANT = "acme"
WHOLE = Part()
TABLES = "audit_events, audit_messages, audit_register, audit_spool_offsets"


@dataclass
class Replica:
    """A process; `checkpoint` is the test's to call."""

    engine: AsyncEngine
    own: OwnDirectory
    spool: SpoolWriter
    keeper: CheckpointKeeper
    shipper: Shipper
    addresses: dict[str, dict[str, str]] = field(default_factory=dict)  # by request

    @property
    def writer(self) -> str:
        return self.spool.writer

    @property
    def events(self) -> int:
        return self.spool.chain.sequence

    async def request(self, request_id: str, *, tenant: str = TENANT, said: str = "hello") -> None:
        """Two events: its intent, and its outcome with what was asked and answered."""
        envelope = ADDRESSES.node(tenant, ROOT, b'{"model":"qwythos"}')
        prompt = ADDRESSES.node(tenant, ROOT, orjson.dumps({"role": "user", "content": said}))
        answer = ADDRESSES.node(
            tenant, prompt.address, orjson.dumps({"role": "assistant", "content": said * 200})
        )
        content = {
            "envelope": envelope.address.hex(),
            "prompt": prompt.address.hex(),
            "messages": 1,
            "conversation": prompt.address.hex(),
            "answers": {"0": answer.address.hex()},
        }
        self.addresses[request_id] = {
            "envelope": content["envelope"],
            "prompt": content["prompt"],
            "answer": answer.address.hex(),
        }  # type: ignore[dict-item]  # texts
        of = {"received_at": time.time(), "route": "/v1/chat/completions", "tenant": tenant}
        of |= {"key_id": f"key_{tenant}", "model": "qwythos"}
        intent = AuditIntent(request_id, **of)  # type: ignore[arg-type]  # a time and texts
        outcome = AuditOutcome(
            request_id, Outcome.COMPLETED, 200, charged_tokens=7, settled_at=time.time(),
            content=content, **of,  # type: ignore[arg-type]  # a time and texts
        )  # fmt: skip
        messages = [message_payload(node, tenant) for node in (envelope, prompt, answer)]
        await self.spool.append(
            [
                Frame(FrameKind.INTENT, encode_intent(intent)),
                *(Frame(FrameKind.MESSAGE, payload) for payload in messages),
                Frame(FrameKind.OUTCOME, encode_outcome(outcome)),
            ]
        )

    async def note(self, kind: FrameKind, values: object) -> None:
        await self.spool.append([Frame(kind, orjson.dumps(values))])

    async def checkpoint(self) -> None:
        """One event more."""
        before = self.events
        self.keeper.keep()
        await eventually(lambda: self.events > before, DEADLINE_SECONDS, "the checkpoint")

    async def shipped(self) -> None:
        """All events so far are in the database."""
        wanted = text("SELECT 1 FROM audit_events WHERE writer = :writer AND sequence = :last")

        async def found() -> object:
            async with self.engine.connect() as connection:
                values = {"writer": self.writer, "last": self.events}
                return (await connection.execute(wanted, values)).first()

        await eventually_found(found, DEADLINE_SECONDS, "it was shipped")


def _no_answer(tenant: str, parent: bytes, body: bytes) -> tuple[bytes, bytes]:
    raise AssertionError("nothing is recovered here")


@asynccontextmanager
async def replica(
    root: Path,
    engine: AsyncEngine,
    *,
    keys: SigningKeys = KEYS,
    closes: bool = True,
    answer_of: AnswerOf = _no_answer,
) -> AsyncIterator[Replica]:
    """At the end everything is shipped. `closes`: the chain is closed then. `answer_of` is for what
    a dead process has left below the same root."""
    own = open_own(root)
    disk = RealDisk()
    metrics = Metrics(CollectorRegistry())
    spool = SpoolWriter(own.path, disk, writer=own.writer, segment_bytes=1024 * 1024)
    publisher = Publisher(FilePlace(root / "checkpoints.jsonl"), metrics)
    shipper = Shipper(
        engine, own, spool, disk, flush_seconds=0.001, metrics=metrics, answer_of=answer_of,
        closing=closing_frames(keys, publisher.offer),
    )  # fmt: skip
    keeper = CheckpointKeeper(
        spool, keys, publisher, records=10**9, seconds=1e9, metrics=metrics,
        register=lambda: shipper.register_head,
    )  # fmt: skip
    await spool.append([registration(own.writer, keys.public_key)])
    process = Replica(engine, own, spool, keeper, shipper)
    async with asyncio.TaskGroup() as group:
        shipping = group.create_task(shipper.run())
        await process.shipped()
        yield process
        shipping.cancel()
    if closes:
        await keeper.close()
    else:
        await publisher.close(DEADLINE_SECONDS)
    await spool.close()
    assert await shipper.drain(DEADLINE_SECONDS)


async def verified(
    engine: AsyncEngine,
    published: Path | None = None,
    *,
    keys: tuple[str, ...] = KEYS.public_keys,
    later_seconds: float = 0.0,
    part: Part = WHOLE,
) -> Report:
    """`published`: with the second place in the directory of that root, too."""
    report = Report()
    file = None if published is None else (published / "checkpoints.jsonl").open("rb")
    try:
        second_place = PublishedCheckpoints(file, keys, report, "checkpoints.jsonl")
        now = time.time() + later_seconds
        return await DatabaseVerification(
            engine, keys, second_place, report, now=now, part=part
        ).run()
    finally:
        if file is not None:
            file.close()


async def tamper(engine: AsyncEngine, *statements: str, **values: object) -> None:
    """As whoever owns the database."""
    async with engine.begin() as connection:
        for statement in statements:
            names = {name for name in values if f":{name}" in statement}
            await connection.execute(text(statement), {name: values[name] for name in names})
