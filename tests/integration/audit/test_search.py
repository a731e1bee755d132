from datetime import UTC, datetime, timedelta

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import Outcome
from app.audit.search import AuditQuery, find_audit_record, search_audit
from app.store.tables import audit_records

NOW = datetime.now(UTC).replace(microsecond=0)


async def put(engine: AsyncEngine, request_id: str, minutes_ago: int, **values: object) -> None:
    row = {
        "request_id": request_id,
        "received_at": NOW - timedelta(minutes=minutes_ago),
        "route": "/v1/chat/completions",
        **values,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(audit_records).values(**row))


async def ids(engine: AsyncEngine, query: AuditQuery, limit: int = 100) -> list[str]:
    return [row.request_id for row in await search_audit(engine, query, limit=limit)]


async def test_records_come_newest_first_and_no_more_than_asked_for(engine: AsyncEngine) -> None:
    for minutes in (3, 1, 2):
        await put(engine, f"order_{minutes}", minutes, tenant="order")
    query = AuditQuery(tenant="order")
    assert await ids(engine, query) == ["order_1", "order_2", "order_3"]
    assert await ids(engine, query, limit=2) == ["order_1", "order_2"]


async def test_each_condition_narrows_the_search(engine: AsyncEngine) -> None:
    common = {"tenant": "narrow", "key_id": "key_1", "model": "qwythos", "outcome": "completed"}
    await put(engine, "narrow_all", 1, **common)
    await put(engine, "narrow_key", 1, **common | {"key_id": "key_2"})
    await put(engine, "narrow_model", 1, **common | {"model": "other"})
    await put(engine, "narrow_outcome", 1, **common | {"outcome": "failed"})
    await put(engine, "narrow_old", 600, **common)
    await put(engine, "narrow_open", 1, **common | {"outcome": None})
    query = AuditQuery(
        since=NOW - timedelta(hours=1),
        tenant="narrow",
        key_id="key_1",
        model="qwythos",
        outcome=Outcome.COMPLETED,
    )
    assert await ids(engine, query) == ["narrow_all"]
    assert await ids(engine, AuditQuery(tenant="narrow", unfinished=True)) == ["narrow_open"]


async def test_a_record_comes_back_whole(engine: AsyncEngine) -> None:
    await put(
        engine,
        "whole",
        0,
        parameters={"temperature": 0.6},
        findings={"hidden": {"in_answer": 1}},
        user_agent="agent\x1b[31m",
        prompt_tokens=12,
        time_to_first_token_seconds=0.25,
        charged_tokens=9,
        settled_at=NOW,
    )
    found = await find_audit_record(engine, "whole")
    assert found is not None
    assert found.received_at == NOW
    assert found.parameters == {"temperature": 0.6}
    assert found.findings == {"hidden": {"in_answer": 1}}
    assert found.user_agent == "agent\x1b[31m"
    assert (found.prompt_tokens, found.completion_tokens) == (12, None)
    assert found.time_to_first_token_seconds == 0.25
    assert (found.charged_tokens, found.settled_at) == (9, NOW)


async def test_an_unknown_request_is_none(engine: AsyncEngine) -> None:
    assert await find_audit_record(engine, "req_none") is None


async def test_a_search_is_data_and_never_sql(engine: AsyncEngine) -> None:
    assert await ids(engine, AuditQuery(tenant="' OR 1=1 --")) == []
