"""The audit log on a real database."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.log import MAX_BATCH_RECORDS
from app.audit.records import AuditOutcome, Outcome
from app.audit.writer import MAX_FINDINGS_BYTES
from app.protocol.events import Usage
from tests.integration.audit.logged import (
    DEADLINE_SECONDS,
    INTENT,
    NO_OUTCOME,
    OF_INTENT,
    OF_OUTCOME,
    OUTCOME,
    WHOLE,
    audited,
    eventually,
    of,
    record,
    rows,
    running,
)


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
