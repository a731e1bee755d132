"""Exchanges read back: what is there, and what a record that was spoilt makes of it."""

from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.erasure import erase
from app.audit.erasures import erasure_payload, erasures_of
from app.audit.exchange import Exchange, State, read_exchange
from app.audit.search import find_audit_record
from app.audit.spool.frames import FrameKind
from app.audit.view import exchange_json
from tests.support.audit_events import EventLog

MESSAGES = [{"role": "user", "content": f"part {number}"} for number in range(4)]
SENT = {"model": "qwythos", "messages": MESSAGES}
ANSWERS = [{"role": "assistant", "content": f"answer {choice}"} for choice in range(2)]


@pytest.fixture
async def log(engine: AsyncEngine) -> EventLog:
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE audit_events, audit_messages"))
    return EventLog(engine)


async def exchange_of(engine: AsyncEngine, request_id: str = "req_1") -> Exchange | None:
    record = await find_audit_record(engine, request_id)
    assert record is not None
    return await read_exchange(engine, record)


async def test_what_was_said_comes_back_as_it_was(engine: AsyncEngine, log: EventLog) -> None:
    await log.request("req_1", 0, tenant="acme", sent=SENT, answers=ANSWERS)
    exchange = await exchange_of(engine)
    assert exchange is not None
    assert [said.value for said in exchange.messages] == MESSAGES
    assert {choice: said.value for choice, said in exchange.answers.items()} == {
        "0": ANSWERS[0],
        "1": ANSWERS[1],
    }
    assert exchange.parameters is not None
    assert exchange.parameters.value == {"model": "qwythos"}
    assert (exchange.missing_messages, exchange.partial) == (0, False)


async def test_another_tenants_message_of_the_same_address_is_not_shown(
    engine: AsyncEngine, log: EventLog
) -> None:
    await log.request("req_1", 0, tenant="acme", sent=SENT, answers=ANSWERS)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE audit_messages SET tenant = 'other'"))
    exchange = await exchange_of(engine)
    assert exchange is not None
    assert (exchange.messages, exchange.missing_messages) == ((), 4)
    assert exchange.answers["0"].state is State.MISSING


async def test_an_erased_message_says_by_whom_and_why_and_hides_no_other(
    engine: AsyncEngine, log: EventLog
) -> None:
    await log.request("req_1", 1, tenant="acme", sent=SENT)
    before = await exchange_of(engine)
    assert before is not None
    address = bytes.fromhex(before.messages[1].address)
    for tenant, by in (("other", "mallory"), ("acme", "alice"), ("acme", "bob")):
        payload = erasure_payload(tenant, [address], by=by, reason="why")
        await log.event(FrameKind.ERASURE, payload)
    await log.event(FrameKind.ERASURE, b'{"tenant": "acme", "addresses": [1, {}], "by": []}')
    await erase(engine, "acme", [address])
    exchange = await exchange_of(engine)
    assert exchange is not None
    assert [said.state for said in exchange.messages] == [
        State.KEPT,
        State.ERASED,
        State.KEPT,
        State.KEPT,
    ]
    erasure = exchange.messages[1].erasure
    assert erasure is not None
    assert (erasure.by, erasure.reason) == ("alice", "why")
    assert await erasures_of(engine, "acme", []) == {}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"prompt": 3, "envelope": [], "answers": {"0": "zz", "1": None}, "messages": "many"},
        {"prompt": "00" * 32, "envelope": "00", "answers": [], "messages": -1},
        {"prompt": "é" * 64},
    ],
)
async def test_a_record_that_was_spoilt_leads_nowhere(
    engine: AsyncEngine, log: EventLog, content: dict[str, Any]
) -> None:
    await log.request("req_1", 0, tenant="acme", of_outcome={"content": content})
    record = await find_audit_record(engine, "req_1")
    assert record is not None
    exchange = await read_exchange(engine, record)
    assert exchange is not None
    assert (exchange.messages, exchange.parameters) == ((), None)
    assert {said.state for said in exchange.answers.values()} <= {State.MISSING}
    assert orjson.loads(exchange_json(record, exchange))["exchange"]["messages"] == []


@pytest.mark.parametrize("body", [b"", b"\xff", b'{"role": "user"', b"[" * 2000])
async def test_a_body_that_was_spoilt_is_no_body_and_breaks_no_json(
    engine: AsyncEngine, log: EventLog, body: bytes
) -> None:
    await log.request("req_1", 0, tenant="acme", sent=SENT)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE audit_messages SET body = :body"), {"body": body})
    record = await find_audit_record(engine, "req_1")
    assert record is not None
    shown = orjson.loads(exchange_json(record, await read_exchange(engine, record)))
    assert [said["state"] for said in shown["exchange"]["messages"]] == ["altered"] * 4
    assert [said["body"] for said in shown["exchange"]["messages"]] == [None] * 4


async def test_a_body_of_any_depth_goes_into_the_json(engine: AsyncEngine, log: EventLog) -> None:
    deep: Any = "bottom"
    for _ in range(900):  # more than our encoder of JSON writes
        deep = [deep]
    sent = {"model": "qwythos", "messages": [{"role": "user", "content": "x", "deep": deep}]}
    await log.request("req_1", 0, tenant="acme", sent=sent)
    record = await find_audit_record(engine, "req_1")
    assert record is not None
    shown = orjson.loads(exchange_json(record, await read_exchange(engine, record)))
    assert shown["exchange"]["messages"][0]["body"] == sent["messages"][0]
