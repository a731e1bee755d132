"""A process that dies within an answer, and whose spool is taken over days later."""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.answers import answers_of
from app.audit.content.nodes import ROOT, message_payload
from app.audit.content.redaction import Redaction
from app.audit.export.query import ExportQuery
from app.audit.log_reader import Part
from app.audit.partitions import prune
from app.audit.records import AuditIntent
from app.audit.registration import registration
from app.audit.retention import dropped_chains, retention_payload
from app.audit.spool.directory import open_own
from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.payloads import (
    BodyPayload,
    ChunkPayload,
    encode_body,
    encode_chunk,
    encode_intent,
)
from app.audit.spool.writer import SpoolWriter
from app.audit.verify.findings import Problem
from tests.integration.audit.exporting import exported
from tests.integration.audit.exporting import verified as verified_export
from tests.integration.audit.replica import (
    ADDRESSES,
    DEADLINE_SECONDS,
    KEYS,
    TABLES,
    TENANT,
    replica,
    tamper,
    verified,
)
from tests.support.conditions import eventually_found

SEGMENT_BYTES = 1024 * 1024
WEEKEND_DAYS = 4
A_DAY = timedelta(days=1)


@pytest.fixture
async def root(engine: AsyncEngine, tmp_path: Path) -> Path:
    """Of a gateway that came back after a long weekend, and shipped what it had left."""
    root = tmp_path / "audit"
    await tamper(engine, f"TRUNCATE {TABLES}")
    await _recover(engine, root, await _leave_behind(root, time.time() - WEEKEND_DAYS * 86_400))
    return root


async def _leave_behind(root: Path, at: float) -> str:
    """What a process has written of an answer that it did not end; its writer."""
    own = open_own(root)
    spool = SpoolWriter(
        own.path, RealDisk(), writer=own.writer, segment_bytes=SEGMENT_BYTES, now=lambda: at
    )
    envelope = ADDRESSES.node(TENANT, ROOT, b'{"model":"qwythos"}')
    question = ADDRESSES.node(TENANT, ROOT, b'{"role":"user","content":"hello"}')
    content = {
        "envelope": envelope.address.hex(),
        "prompt": question.address.hex(),
        "messages": 1,
        "conversation": question.address.hex(),
    }
    intent = AuditIntent("req_1", at, "/v1/chat/completions", tenant=TENANT)
    parent = question.address.hex()
    await spool.append(
        [
            registration(own.writer, KEYS.public_key),
            Frame(FrameKind.INTENT, encode_intent(intent)),
            *(Frame(FrameKind.MESSAGE, message_payload(n, TENANT)) for n in (envelope, question)),
            Frame(FrameKind.BODY, encode_body(BodyPayload("req_1", content))),
            Frame(
                FrameKind.CHUNK,
                encode_chunk(ChunkPayload("req_1", TENANT, parent, {"0": "hello to"})),
            ),
        ]
    )
    await spool.close()
    own.close()
    return own.writer


async def _recover(engine: AsyncEngine, root: Path, writer: str) -> None:
    """Another process ends what that writer has left, and closes its chain."""
    closing = text("SELECT 1 FROM audit_events WHERE writer = :writer AND kind = :checkpoint")

    async def closed() -> object:
        async with engine.connect() as connection:
            values = {"writer": writer, "checkpoint": int(FrameKind.CHECKPOINT)}
            return (await connection.execute(closing, values)).first()

    async with replica(root, engine, answer_of=answers_of(ADDRESSES, Redaction())):
        await eventually_found(closed, DEADLINE_SECONDS, "the chain was closed")


async def _pruned(engine: AsyncEngine, root: Path, before: date) -> None:
    """As `gateway audit prune` does it."""
    chains = await dropped_chains(engine, before, KEYS.public_keys)
    async with replica(root, engine) as process:
        await process.note(FrameKind.RETENTION, orjson.loads(retention_payload(before, chains)))
    await prune(engine, before)


async def _days_of_messages(engine: AsyncEngine) -> list[date]:
    async with engine.connect() as connection:
        wanted = text("SELECT DISTINCT stored_on FROM audit_messages ORDER BY stored_on")
        return list(await connection.scalars(wanted))


async def _problems(engine: AsyncEngine, root: Path) -> set[Problem]:
    report = await verified(engine, root)
    return {finding.problem for finding in report.findings.in_order()}


async def test_its_answer_follows_the_question_of_an_earlier_day(
    engine: AsyncEngine, root: Path
) -> None:
    first, last = await _days_of_messages(engine)

    assert last - first >= 2 * A_DAY
    assert await _problems(engine, root) == set()


async def test_an_export_of_the_day_of_the_answer_does_without_the_question(
    engine: AsyncEngine, root: Path, tmp_path: Path
) -> None:
    _, last = await _days_of_messages(engine)
    since = datetime.combine(last, datetime.min.time(), UTC)
    query = ExportQuery(Part(since=since), content=True)

    report = verified_export(await exported(engine, tmp_path / "log.jsonl", query, root=root))

    assert report.findings.in_order() == []


async def test_a_question_that_was_deleted_is_found(engine: AsyncEngine, root: Path) -> None:
    first, _ = await _days_of_messages(engine)

    await tamper(engine, "DELETE FROM audit_messages WHERE stored_on = :first", first=first)

    assert await _problems(engine, root) == {Problem.MESSAGE_MISSING}


async def test_a_question_that_was_dropped_with_its_day_is_missed_by_nobody(
    engine: AsyncEngine, root: Path
) -> None:
    _, last = await _days_of_messages(engine)

    await _pruned(engine, root, last - A_DAY)

    assert await _days_of_messages(engine) == [last]
    assert await _problems(engine, root) == set()


async def test_a_question_that_was_deleted_is_found_also_where_older_days_were_dropped(
    engine: AsyncEngine, root: Path
) -> None:
    first, _ = await _days_of_messages(engine)
    await _pruned(engine, root, first - A_DAY)

    await tamper(engine, "DELETE FROM audit_messages WHERE stored_on = :first", first=first)

    assert await _problems(engine, root) == {Problem.MESSAGE_MISSING}
