"""Searches of the audit log: what they find, in which order, and along which index."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import AuditLevel, Outcome
from app.audit.search import AuditQuery, cursor_of, find_audit_record, search_audit
from app.errors import InvalidRequest
from app.protocol.events import Usage
from app.store.database import create_engine
from tests.support.audit_events import EventLog

HASH = "ab" * 32


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE audit_events"))
    yield engine
    await engine.dispose()


@pytest.fixture
def log(engine: AsyncEngine) -> EventLog:
    return EventLog(engine)


async def ids(engine: AsyncEngine, query: AuditQuery, limit: int = 100) -> list[str]:
    page = await search_audit(engine, query, limit=limit)
    return [row.request_id for row in page.records]


async def test_requests_come_newest_first_and_no_more_than_asked_for(
    engine: AsyncEngine, log: EventLog
) -> None:
    for minutes in (3, 1, 2):
        await log.request(f"req_{minutes}", minutes)
    assert await ids(engine, AuditQuery()) == ["req_1", "req_2", "req_3"]
    page = await search_audit(engine, AuditQuery(), limit=2)
    assert ([row.request_id for row in page.records], page.has_more) == (["req_1", "req_2"], True)
    assert not (await search_audit(engine, AuditQuery(), limit=3)).has_more


async def test_each_condition_narrows_the_search(engine: AsyncEngine, log: EventLog) -> None:
    common: dict[str, Any] = {"tenant": "acme", "key_id": "key_1", "model": "qwythos"}
    content: dict[str, Any] = {"of_outcome": {"content": {"conversation": HASH}}}
    await log.request("req_all", 1, **common, **content)
    await log.request("req_tenant", 1, **common | {"tenant": "other"}, **content)
    await log.request("req_key", 1, **common | {"key_id": "key_2"}, **content)
    await log.request("req_model", 1, **common | {"model": "other"}, **content)
    await log.request("req_outcome", 1, outcome="failed", **common, **content)
    await log.request("req_conversation", 1, **common)
    await log.request("req_old", 600, **common, **content)
    await log.request("req_young", 0, **common, **content)
    await log.request("req_open", 1, outcome=None, **common)
    query = AuditQuery(
        since=log.now - timedelta(hours=1),
        until=log.now - timedelta(seconds=30),
        tenant="acme",
        key_id="key_1",
        model="qwythos",
        outcome=Outcome.COMPLETED,
        conversation=HASH,
    )
    assert await ids(engine, query) == ["req_all"]


async def test_the_end_of_a_span_is_no_part_of_it_and_its_begin_is(
    engine: AsyncEngine, log: EventLog
) -> None:
    for minutes in (3, 2, 1):
        await log.request(f"req_{minutes}", minutes)
    since, until = (log.now - timedelta(minutes=minutes) for minutes in (3, 1))
    assert await ids(engine, AuditQuery(since=since, until=until)) == ["req_2", "req_3"]


async def test_what_has_not_ended_is_asked_for_by_itself(
    engine: AsyncEngine, log: EventLog
) -> None:
    await log.request("req_ended", 1, tenant="acme")
    await log.request("req_open", 2, outcome=None, tenant="acme")
    await log.request("req_other", 2, outcome=None, tenant="other")
    await log.request("req_old", 120, outcome=None, tenant="acme")
    query = AuditQuery(unfinished=True, tenant="acme", since=log.now - timedelta(hours=1))
    assert await ids(engine, query) == ["req_open"]
    (row,) = (await search_audit(engine, query, limit=10)).records
    assert (row.outcome, row.status, row.tenant, row.findings) == (None, None, "acme", {})
    assert await ids(engine, AuditQuery()) == ["req_ended"]


async def test_pages_run_through_all_requests_also_those_of_one_moment(
    engine: AsyncEngine, log: EventLog
) -> None:
    for number in range(7):
        await log.request(f"req_{number}", minutes_ago=number // 3)
    for number in range(7, 10):
        await log.request(f"req_{number}", minutes_ago=60 * 24 * number)
    for query in (AuditQuery(), AuditQuery(since=log.now - timedelta(days=20))):
        expected = await ids(engine, query)
        found: list[str] = []
        after = None
        for _ in range(5):
            page = await search_audit(engine, AuditQuery(since=query.since, after=after), limit=2)
            assert page.has_more == (len(found) + len(page.records) < len(expected))
            found += [row.request_id for row in page.records]
            after = cursor_of(page.records[-1])
        assert found == expected
        assert len(set(found)) == 10


async def test_a_page_of_what_is_unfinished_is_followed_by_the_next(
    engine: AsyncEngine, log: EventLog
) -> None:
    for minutes in range(3):
        await log.request(f"req_{minutes}", minutes, outcome=None)
    first = await search_audit(engine, AuditQuery(unfinished=True), limit=2)
    after = cursor_of(first.records[-1])
    assert await ids(engine, AuditQuery(unfinished=True, after=after)) == ["req_2"]


@pytest.mark.parametrize(
    "after", ["", "x", "req_1", "é", "AAAA", "A" * 500, "_" * 44, "AAAAAAAAAAAA", "\0", "a\nb"]
)
async def test_a_cursor_that_is_none_is_named(engine: AsyncEngine, after: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await search_audit(engine, AuditQuery(after=after), limit=1)
    assert refusal.value.param == "after"


@pytest.mark.parametrize(
    "wanted",
    [
        "OpenAI/Python",
        "openai/PYTHON 3.54",
        'say "hi"',
        "back\\slash",
        "100%_sure",
        "ünïcode",
        "10.1.2.3",
        "loop_in_thought",
        "upstream_timeout",
        "http://worker-7:8000",
    ],
)
async def test_a_text_is_looked_for_literally_in_what_both_events_say(
    engine: AsyncEngine, log: EventLog, wanted: str
) -> None:
    await log.request(
        "req_wanted",
        2,
        outcome="failed",
        user_agent='OpenAI/Python 3.54.0 say "hi" back\\slash 100%_sure ünïcode',
        client_ip="10.1.2.3",
        of_outcome={
            "findings": {"stopped": "loop_in_thought"},
            "error_code": "upstream_timeout",
            "worker": "http://worker-7:8000",
        },
    )
    await log.request(
        "req_other", 1, user_agent="OpenAX backXslash 100XXsure", client_ip="10x1.2.3"
    )
    await log.request("req_without_intent", 3)
    assert await ids(engine, AuditQuery(text=wanted)) == ["req_wanted"]


async def test_a_text_is_found_in_what_has_not_ended_too(
    engine: AsyncEngine, log: EventLog
) -> None:
    await log.request("req_wanted", 1, outcome=None, user_agent="curl/8")
    await log.request("req_other", 1, outcome=None, user_agent="wget")
    assert await ids(engine, AuditQuery(unfinished=True, text="CURL")) == ["req_wanted"]


@pytest.mark.parametrize("wanted", ["%", "_", "\\", "\0", "'; --", "' OR 1=1 --", "\N{FIRE}"])
async def test_a_search_is_data_and_never_a_pattern_or_sql(
    engine: AsyncEngine, log: EventLog, wanted: str
) -> None:
    await log.request("req_other", 1, user_agent="abc")
    query = AuditQuery(tenant=wanted.replace("\0", ""), text=wanted)
    assert await ids(engine, query) == []


async def test_a_row_says_all_that_its_events_say(engine: AsyncEngine, log: EventLog) -> None:
    content = {"prompt": HASH, "messages": 3, "conversation": HASH, "answers": {"0": HASH}}
    await log.request(
        "req_whole",
        0,
        key_id="key_1",
        tenant="acme",
        model="qwythos",
        stream=True,
        body_bytes=1234,
        parameters={"temperature": 0.6},
        user_agent="agent\x1b[31m",
        level=AuditLevel.FULL_AND_REASONING,
        of_outcome={
            "usage": Usage(10, 20, 5, 3, exact=True),
            "findings": {"hidden": {"in_answer": 1}},
            "worker": "http://worker:8000",
            "attempts": 2,
            "duration_seconds": 2.5,
            "charged_tokens": 9,
            "settled_at": 1_700_000_002.123457,
            "content": content,
        },
    )
    row = await find_audit_record(engine, "req_whole")
    assert row is not None
    assert (await search_audit(engine, AuditQuery(), limit=9)).records == (row,)
    assert row.received_at == row.recorded_at == log.now
    assert (row.route, row.key_id, row.tenant) == ("/v1/chat/completions", "key_1", "acme")
    assert (row.model, row.stream, row.body_bytes) == ("qwythos", True, 1234)
    assert (row.parameters, row.user_agent) == ({"temperature": 0.6}, "agent\x1b[31m")
    assert (row.outcome, row.status, row.level) == ("completed", 200, "full+reasoning")
    assert (row.prompt_tokens, row.completion_tokens, row.reasoning_tokens) == (10, 20, 5)
    assert (row.cached_tokens, row.usage_exact, row.attempts) == (3, True, 2)
    assert (row.findings, row.duration_seconds) == ({"hidden": {"in_answer": 1}}, 2.5)
    assert row.charged_tokens == 9
    assert row.settled_at == datetime(2023, 11, 14, 22, 13, 22, 123457, tzinfo=UTC)
    assert (row.content, row.conversation) == (content, HASH)
    assert (row.writer, row.sequence) == (log.writer, 2)


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"[]", b'{"usage": 3, "status": "x", "received_at": 1e300}']
)
async def test_a_payload_that_somebody_spoilt_hides_no_other(
    engine: AsyncEngine, log: EventLog, payload: bytes
) -> None:
    await log.request("req_1", 2)
    await log.request("req_2", 1)
    spoil = text("UPDATE audit_events SET payload = :payload WHERE request_id = 'req_2'")
    async with engine.begin() as connection:
        await connection.execute(spoil, {"payload": payload})
    assert await ids(engine, AuditQuery()) == ["req_2", "req_1"]
    row = await find_audit_record(engine, "req_2")
    assert row is not None
    assert (row.status, row.prompt_tokens, row.received_at) == (None, None, None)


@pytest.mark.parametrize("request_id", ["req_none", "", "a\0b", "x" * 1000])
async def test_an_unknown_request_is_none(engine: AsyncEngine, request_id: str) -> None:
    assert await find_audit_record(engine, request_id) is None


# -- how it is found

ROWS = 6_000  # enough for a planner to prefer reading all of it where it is not told otherwise
QUERIES = {
    "all": AuditQuery(),
    "tenant": AuditQuery(tenant="tenant_3"),
    "key": AuditQuery(key_id="key_3"),
    "nobody": AuditQuery(tenant="nobody"),
    "model": AuditQuery(model="no such"),
    "outcome": AuditQuery(outcome=Outcome.FAILED),
    "conversation": AuditQuery(conversation=HASH),
    "text": AuditQuery(text="no such"),
    "unfinished": AuditQuery(unfinished=True),
    "unfinished of one": AuditQuery(unfinished=True, tenant="tenant_3", text="x"),
}


@pytest.fixture
async def large(engine: AsyncEngine, log: EventLog) -> None:
    """A day of some size, with statistics, between two of one request each."""
    await log.request("req_before", 60 * 24 * 20)
    filled = text(
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload, request_id,"
        " received_at, key_id, tenant, model, outcome, status) SELECT CAST(:day AS timestamptz)"
        " + n * interval '1 s', 'b', n, 1 + n % 2, '', convert_to(repeat('x', 300), 'UTF8'),"
        " 'req_' || n / 2, CAST(:day AS timestamptz) + n * interval '1 s', 'key_' || n % 20,"
        " 'tenant_' || n % 5, 'qwythos',"
        " CASE n % 2 WHEN 1 THEN 'completed' END, 200 FROM generate_series(1, :rows) AS n"
    )
    day = (log.now - timedelta(days=1)).replace(hour=0, minute=0, second=0)
    async with engine.begin() as connection:
        await connection.execute(filled, {"day": day, "rows": ROWS})
        await connection.execute(text("ANALYZE audit_events"))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("name", QUERIES)
async def test_no_search_reads_a_large_day_from_end_to_end(
    engine: AsyncEngine, log: EventLog, name: str
) -> None:
    since = log.now - timedelta(days=7)
    query = QUERIES[name]
    plan = await plan_of(engine, AuditQuery(**_fields(query) | {"since": since}))
    large = f"audit_events_{log.now - timedelta(days=1):%Y%m%d}"
    assert large in {node.get("Relation Name") for node in plan}
    scans = {node["Node Type"] for node in plan if "Relation Name" in node}
    assert scans <= {"Index Scan", "Index Only Scan"}
    old = f"audit_events_{log.now - timedelta(days=20):%Y%m%d}"
    assert old not in {node.get("Relation Name") for node in plan}


@pytest.mark.usefixtures("large")
async def test_a_next_page_leaves_younger_days_out(engine: AsyncEngine, log: EventLog) -> None:
    (row,) = (await search_audit(engine, AuditQuery(), limit=1)).records
    (old,) = (
        await search_audit(engine, AuditQuery(until=log.now - timedelta(days=10)), limit=1)
    ).records
    before = await tables_of(engine, AuditQuery(after=cursor_of(row)))
    after = await tables_of(engine, AuditQuery(after=cursor_of(old)))
    large = f"audit_events_{log.now - timedelta(days=1):%Y%m%d}"
    assert large in before
    assert large not in after


async def test_a_search_that_takes_too_long_says_how_to_narrow_it(
    engine: AsyncEngine, log: EventLog
) -> None:
    await log.request("req_1", 1)
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(InvalidRequest, match="Narrow it, by `since` and `until`") as refusal:
            await asyncio.wait_for(search_audit(engine, AuditQuery(), limit=1), 120)
    assert refusal.value.code == "search_too_broad"
    assert await ids(engine, AuditQuery()) == ["req_1"]


def _fields(query: AuditQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in AuditQuery.__slots__}


async def plan_of(engine: AsyncEngine, query: AuditQuery) -> list[dict[str, Any]]:
    """The nodes that run of the plan of what a search sends, under the settings that it sends
    before: a partition may also be left out while it runs."""
    sent: list[tuple[str, tuple[Any, ...]]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        sent.append((statement, parameters))

    with listening(engine, note):
        await search_audit(engine, query, limit=50)
    *before, (statement, parameters) = sent
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        async with driver.transaction():
            for setting, values in before:
                await driver.fetch(setting, *values)
            plan = await driver.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters)
    return [node for node in _nodes(plan[0]["Plan"]) if node["Actual Loops"]]


async def tables_of(engine: AsyncEngine, query: AuditQuery) -> set[str]:
    return {str(node.get("Relation Name")) for node in await plan_of(engine, query)}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


@contextmanager
def listening(engine: AsyncEngine, note: Callable[..., None]) -> Iterator[None]:
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield
    event.remove(engine.sync_engine, "before_cursor_execute", note)
