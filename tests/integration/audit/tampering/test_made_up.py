"""Events with numbers and times that no gateway gives: found, and believed by nobody."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.audit.erasures import erasure_payload, erasures_of
from app.audit.log_reader import Part
from app.audit.search import AuditQuery, find_audit_record, search_audit
from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from app.store.grants import grant
from tests.integration.audit.replica import TENANT, verified
from tests.integration.audit.tampering.log import REQUESTS, Log

NOBODY = "f" * 32
LAST_HOUR = timedelta(hours=1)
UNTOUCHED = {f"req_{number}": "completed" for number in range(REQUESTS)} | {
    "req_other": "completed"
}
# A copy of the outcome of req_0 that says otherwise, of which it would be the first.
ANOTHER_OUTCOME = """
INSERT INTO audit_events
SELECT {at}, :of, {number}, kind, hash,
    convert_to(replace(convert_from(payload, 'UTF8'), 'completed', 'failed'), 'UTF8'),
    request_id, received_at, key_id, tenant, model, conversation, 'failed', status, error_code,
    charged_tokens, settled_at
FROM audit_events WHERE writer = :writer AND sequence = 3
"""
BEFORE_IT = "recorded_at - interval '1 microsecond'"
# By whoever owns the tables.
DAYS_OF_ALL_TIMES = (
    "CREATE TABLE early PARTITION OF audit_events FOR VALUES FROM (MINVALUE) TO ('1970-01-02')",
    "CREATE TABLE late PARTITION OF audit_events FOR VALUES FROM ('9998-12-31') TO (MAXVALUE)",
)


@pytest.fixture(autouse=True)
async def partitions(log: Log) -> AsyncIterator[None]:
    """Those of days that a test makes go with it."""
    before = await _partitions(log)
    yield
    await log.sql(*(f"DROP TABLE {name}" for name in await _partitions(log) - before))


async def _partitions(log: Log) -> set[str]:
    async with log.engine.connect() as connection:
        return set(
            await connection.scalars(
                text(
                    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent "
                    "IN ('audit_events'::regclass, 'audit_messages'::regclass)"
                )
            )
        )


@pytest.fixture
async def role(log: Log) -> AsyncIterator[str]:
    """What a gateway runs as: it may insert."""
    name = f"gateway_{uuid.uuid4().hex}"
    async with log.engine.begin() as connection:
        await connection.exec_driver_sql(f"CREATE ROLE {name}")
    await grant(log.engine, name)
    yield name
    async with log.engine.begin() as connection:
        await connection.exec_driver_sql(f"DROP OWNED BY {name}")
        await connection.exec_driver_sql(f"DROP ROLE {name}")


async def insert_as(role: str, log: Log, *statements: str, **values: object) -> None:
    async with log.engine.begin() as connection:
        await connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        for statement in statements:
            await connection.execute(text(statement), values if ":of" in statement else {})


async def found_outcomes(log: Log) -> dict[str, str | None]:
    """By request, each of which is found once."""
    page = await search_audit(log.engine, AuditQuery(), limit=100)
    assert len({row.request_id for row in page.records}) == len(page.records)
    return {row.request_id: row.outcome for row in page.records}


async def shown_outcome(log: Log) -> str | None:
    row = await find_audit_record(log.engine, "req_0")
    assert row is not None
    return row.outcome


async def findings_of(log: Log, part: Part) -> set[tuple[Problem, str | None, int | None]]:
    report = await verified(log.engine, log.root, part=part)
    return {(each.problem, each.writer, each.sequence) for each in report.findings.in_order()}


@pytest.mark.parametrize("known", [True, False], ids=["a known writer", "a writer of nobody's"])
async def test_the_gateways_own_role_cannot_give_a_request_another_outcome_by_a_low_number(
    log: Log, role: str, known: bool
) -> None:
    of = log.writer if known else NOBODY
    statement = ANOTHER_OUTCOME.format(at=BEFORE_IT, number=-7)

    await insert_as(role, log, statement, of=of, writer=log.writer)

    assert await found_outcomes(log) == UNTOUCHED
    assert await shown_outcome(log) == "completed"
    for part in (Part(), Part(since=datetime.now(UTC) - LAST_HOUR)):
        assert await findings_of(log, part) == {(Problem.INSERTED, of, -7)}


@pytest.mark.parametrize("day", ["9999-01-01", "9999-12-31", "1969-12-31"])
async def test_the_gateways_own_role_cannot_add_an_outcome_beyond_all_days(
    log: Log, role: str, day: str
) -> None:
    await insert_as(
        role,
        log,
        f"SELECT audit_make_partitions('{day}', '{day}')",
        ANOTHER_OUTCOME.format(at=f"timestamptz '{day} 12:00Z'", number=3),
        of=log.writer,
        writer=log.writer,
    )

    assert await found_outcomes(log) == UNTOUCHED
    assert await shown_outcome(log) == "completed"
    for part in (Part(), Part(since=datetime.now(UTC) - LAST_HOUR)):
        assert await findings_of(log, part) == {(Problem.INSERTED, log.writer, 3)}


@pytest.mark.parametrize("at", ["12000-01-01Z", "infinity", "-infinity", "0100-01-01 BC"])
async def test_a_time_that_no_driver_can_read_is_found_and_keeps_nobody_from_the_rest(
    log: Log, at: str
) -> None:
    await log.sql(
        *DAYS_OF_ALL_TIMES,
        ANOTHER_OUTCOME.format(at=f"timestamptz '{at}'", number=1),
        of=NOBODY,
    )

    assert await found_outcomes(log) == UNTOUCHED
    assert await shown_outcome(log) == "completed"
    assert await findings_of(log, Part()) == {(Problem.INSERTED, NOBODY, 1)}


async def test_the_lowest_number_at_the_first_moment_is_found(log: Log) -> None:
    await log.sql(
        *DAYS_OF_ALL_TIMES,
        ANOTHER_OUTCOME.format(at="timestamptz '1970-01-01Z'", number=-(2**63)),
        of=NOBODY,
    )

    assert await findings_of(log, Part()) == {(Problem.INSERTED, NOBODY, -(2**63))}


async def test_the_end_of_a_request_that_still_runs_cannot_be_made_up(log: Log, role: str) -> None:
    await log.sql("DELETE FROM audit_events WHERE writer = :writer AND sequence = 10")
    await insert_as(
        role,
        log,
        ANOTHER_OUTCOME.replace("request_id,", "'req_3',").format(at="recorded_at", number=-7),
        of=log.writer,
        writer=log.writer,
    )

    page = await search_audit(log.engine, AuditQuery(unfinished=True), limit=100)

    assert [row.request_id for row in page.records] == ["req_3"]


async def test_what_a_request_asked_for_cannot_be_replaced_by_a_low_number(
    log: Log, role: str
) -> None:
    await insert_as(
        role,
        log,
        "INSERT INTO audit_events SELECT recorded_at - interval '1 second', writer, -7, kind, "
        "hash, convert_to(replace(convert_from(payload, 'UTF8'), 'qwythos', 'other'), 'UTF8'), "
        "request_id FROM audit_events WHERE writer = :of AND sequence = 2",
        of=log.writer,
    )
    await log.sql("DELETE FROM audit_events WHERE writer = :writer AND sequence = 2")

    page = await search_audit(log.engine, AuditQuery(), limit=100)
    shown = await find_audit_record(log.engine, "req_0")

    assert {row.model for row in (*page.records, shown) if row} == {"qwythos"}
    assert await findings_of(log, Part()) == {
        (Problem.INSERTED, log.writer, -7),
        (Problem.MISSING, log.writer, 2),
    }


@pytest.mark.parametrize(
    ("at", "number"), [("12000-01-01Z", 1), ("infinity", 1), ("2020-01-01Z", -7)]
)
async def test_an_erasure_that_was_made_up_is_nobodys(log: Log, at: str, number: int) -> None:
    address = bytes.fromhex(log.addresses["prompt"])
    await log.sql(
        *DAYS_OF_ALL_TIMES,
        "SELECT audit_make_partitions('2020-01-01', '2020-01-01')",
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload, tenant) "
        "VALUES (CAST(CAST(:at AS text) AS timestamptz), :of, :number, :kind, '', :payload, "
        ":tenant)",
        at=at,
        of=NOBODY,
        number=number,
        kind=int(FrameKind.ERASURE),
        payload=erasure_payload(TENANT, [address], by="somebody", reason="none"),
        tenant=TENANT,
    )

    assert await erasures_of(log.engine, TENANT, [address]) == {}
    assert await findings_of(log, Part()) == {(Problem.INSERTED, NOBODY, number)}


@pytest.mark.parametrize("column", ["received_at", "settled_at"])
@pytest.mark.parametrize("at", ["12000-01-01Z", "infinity", "-infinity", "4714-11-24 00:00Z BC"])
async def test_a_column_that_no_driver_can_read_is_found_and_keeps_nobody_from_the_rest(
    log: Log, column: str, at: str
) -> None:
    await log.sql(
        f"UPDATE audit_events SET {column} = CAST(CAST(:at AS text) AS timestamptz) "  # noqa: S608 - a name of the test's own
        "WHERE writer = :writer AND sequence = 3",
        at=at,
    )

    assert await found_outcomes(log) == UNTOUCHED
    assert await findings_of(log, Part()) == {(Problem.COLUMN_CHANGED, log.writer, 3)}


@pytest.mark.parametrize("at", ["12000-01-01Z", "infinity", "-infinity", "4714-11-24 00:00Z BC"])
async def test_a_time_of_the_register_that_no_driver_can_read_is_found(log: Log, at: str) -> None:
    await log.sql(
        "UPDATE audit_register SET registered_at = CAST(CAST(:at AS text) AS timestamptz) "
        "WHERE writer = :other",
        at=at,
    )

    problems = {problem for problem, _, _ in await findings_of(log, Part())}

    assert problems == {Problem.REGISTER}
