"""Records of requests, and the rows that they become."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import GENESIS, ChainHead, link
from app.audit.projection import columns_of
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.stored import Batch, event_row, store, storing
from app.protocol.events import Usage
from app.protocol.findings import CallRefusal, Hidden
from app.store.tables import audit_records

NOW = float(int(time.time()))
RECEIVED_AT = NOW - 99.75
SETTLED_AT = NOW - 97.876543  # microseconds decide on which side of a bound it lies
DEADLINE_SECONDS = 60.0  # only spent on failure

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
    charged_tokens=27,
    settled_at=SETTLED_AT,
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
    "charged_tokens": 27,
    "settled_at": datetime.fromtimestamp(SETTLED_AT, UTC),
}
NO_OUTCOME = dict.fromkeys(OF_OUTCOME) | {"findings": {}}
WHOLE = {"request_id": "req_1", **OF_INTENT, **OF_OUTCOME}


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.005)


async def rows(engine: AsyncEngine) -> list[dict[str, Any]]:
    wanted = [column for column in audit_records.c if column.name != "recorded_at"]
    async with engine.connect() as connection:
        found = await connection.execute(select(*wanted).order_by(audit_records.c.request_id))
        return [dict(row) for row in found.mappings()]


def of(request_id: str, **fields: Any) -> tuple[AuditIntent, AuditOutcome]:
    intent: dict[str, Any] = {"received_at": RECEIVED_AT, "route": "/v1/chat/completions"}
    return (
        AuditIntent(request_id, **{**intent, **fields}),
        AuditOutcome(request_id, Outcome.REFUSED, 429),
    )


async def write(
    engine: AsyncEngine, *records: AuditIntent | AuditOutcome, at: float = NOW
) -> list[ChainHead]:
    """As a writer of their own has recorded them, without a spool; its chain after each."""
    writer, head, chain, events = uuid.uuid4().hex, GENESIS, [], []
    for record in records:
        if isinstance(record, AuditIntent):
            kind, payload = FrameKind.INTENT, encode_intent(record)
        else:
            kind, payload = FrameKind.OUTCOME, encode_outcome(record)
        microseconds = round(at * 1e6)
        head = link(head, kind, microseconds, payload)
        columns = columns_of(kind, payload)
        events.append(event_row(writer, head, kind, microseconds, payload, columns))
        chain.append(head)
    async with storing(engine) as connection:
        await store(connection, Batch(events, []))
    return chain
