"""Whatever a client sent, Postgres takes the payload of its event as `jsonb`."""

from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.payloads import encode_intent, encode_outcome

AS_JSONB = text("SELECT convert_from(:payload, 'UTF8')::jsonb::text")

NEST: list[Any] = []
for _ in range(300):
    NEST = [NEST]


@pytest.mark.parametrize(
    "value",
    [
        "\0",
        "\ud800",
        "\udc00\ud800",
        "\\u0000",
        "\\\0",
        "\\\\u0000",
        "\U0001f600\x01\x7f\u2028",
        "\0" * 1_000_000,
        1e308,
        5e-324,
        2**64 - 1,
        2**64,
        -(2**200),
        {"\0": 1, "\ufffd": 2},
        NEST,
    ],
)
async def test_an_event_with_it_is_jsonb(engine: AsyncEngine, value: Any) -> None:
    words = value if isinstance(value, str) else "qwythos"
    intent = AuditIntent("req_1", 1.0, "/r", model=words, parameters={words: value})
    outcome = AuditOutcome("req_1", Outcome.FAILED, 502, worker=words, findings={words: value})
    async with engine.connect() as connection:
        for payload in (encode_intent(intent), encode_outcome(outcome)):
            taken = await connection.scalar(AS_JSONB, {"payload": payload})
            assert orjson.loads(taken)["request_id"] == "req_1"
