"""`/admin/v1/audit`: the search and the exchange over HTTP, and who is told of a reading."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.settings import Settings
from app.store.database import create_engine
from tests.integration.api.admin import TOKEN, admin_app, client_of
from tests.support.audit_events import EventLog

AUDIT = "/admin/v1/audit"
SENT = {"model": "qwythos", "messages": [{"role": "user", "content": "Grüße\u202e"}]}
ANSWER = {"role": "assistant", "content": "Hi."}


@pytest.fixture
async def log(engine: AsyncEngine) -> EventLog:
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE audit_events"))
    return EventLog(engine)


async def listed(client: httpx.AsyncClient, **params: Any) -> list[str]:
    response = await client.get(AUDIT, params=params)
    assert response.status_code == 200, response.text
    return [record["request_id"] for record in response.json()["data"]]


async def test_requests_are_listed_in_pages_as_openai_lists_things(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    for minutes in range(3):
        await log.request(f"req_{minutes}", minutes, tenant="acme")
    first = (await client.get(AUDIT, params={"limit": 2})).json()
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [record["request_id"] for record in first["data"]] == ["req_0", "req_1"]
    assert first["first_id"] == first["data"][0]["cursor"]
    assert first["last_id"] == first["data"][1]["cursor"]
    rest = (await client.get(AUDIT, params={"after": first["last_id"]})).json()
    assert [record["request_id"] for record in rest["data"]] == ["req_2"]
    assert not rest["has_more"]


async def test_every_filter_of_the_terminal_is_there(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    common: dict[str, Any] = {"tenant": "acme", "key_id": "key_1", "model": "qwythos"}
    await log.request("req_1", 1, user_agent="curl/8", sent=SENT, **common)
    await log.request("req_2", 2, outcome="failed", status=502, tenant="other")
    await log.request("req_3", 3, outcome=None, **common)
    await log.request("req_old", 60 * 24 * 8, **common)
    conversation = (await client.get(f"{AUDIT}/req_1")).json()["conversation"]
    assert await listed(client) == ["req_1", "req_2"]
    for wanted in (
        {"tenant": "acme"},
        {"key_id": "key_1"},
        {"model": "qwythos"},
        {"outcome": "completed"},
        {"text": "CURL"},
        {"conversation": conversation},
        {"since": (log.now - timedelta(minutes=1.5)).isoformat()},
        {"since": (log.now - timedelta(minutes=1.5)).timestamp()},
    ):
        assert await listed(client, **wanted) == ["req_1"]
    assert await listed(client, outcome="unfinished") == ["req_3"]
    early = (log.now - timedelta(minutes=1.5)).isoformat()
    assert await listed(client, until=early) == ["req_2"]
    ever = datetime(2000, 1, 1, tzinfo=UTC).isoformat()
    assert await listed(client, since=ever, until=early) == ["req_2", "req_old"]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"after": "req_1"}, "after"),
        ({"after": "x" * 1000}, "after"),
        ({"limit": 101}, "limit"),
        ({"limit": 0}, "limit"),
        ({"outcome": "fine"}, "outcome"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-31T00:00:00"}, "since"),
        ({"since": "0001-01-01T00:00:00+14:00", "outcome": "unfinished"}, "since"),
        ({"until": "9999-12-31T23:59:59-12:00"}, "until"),
        ({"tenant": "a\0b"}, "tenant"),
        ({"text": "x" * 257}, "text"),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-31T00:00:00Z"}, "since"),
        ({"key": "key_1"}, "key"),  # as the terminal's option is called
    ],
)
async def test_what_is_wrong_in_a_search_is_named(
    client: httpx.AsyncClient, log: EventLog, params: dict[str, Any], param: str
) -> None:
    response = await client.get(AUDIT, params=params)
    assert response.status_code == 400
    assert response.json()["error"]["param"].split("[")[0].split(".")[0] == param


async def test_a_record_comes_without_what_was_said_unless_that_is_asked_for(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    await log.request("req_1", 1, tenant="acme", sent=SENT, answers=[ANSWER])
    with capture_logs() as logs:
        record = (await client.get(f"{AUDIT}/req_1")).json()
    assert (record["object"], record["request_id"]) == ("audit.record", "req_1")
    assert "exchange" not in record
    assert [line for line in logs if line["event"] == "audit_read"] == []
    with capture_logs() as logs:
        whole = (await client.get(f"{AUDIT}/req_1", params={"content": "true"})).json()
    exchange = whole.pop("exchange")
    assert whole == record
    assert [message["body"] for message in exchange["messages"]] == SENT["messages"]
    assert exchange["answers"]["0"]["body"] == ANSWER
    (line,) = [line for line in logs if line["event"] == "audit_read"]
    assert (line["request_id"], line["by"], line["tenant"]) == ("req_1", "admin", "acme")
    assert line["client_ip"] == "192.0.2.1"


async def test_an_exchange_of_which_nothing_is_kept_is_null(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    await log.request("req_1", 1, level="metadata")
    record = (await client.get(f"{AUDIT}/req_1", params={"content": "true"})).json()
    assert (record["level"], record["exchange"]) == ("metadata", None)


@pytest.mark.parametrize("request_id", ["req_none", "a%00b", "x" * 3000])
async def test_an_unknown_request_is_not_found(
    client: httpx.AsyncClient, log: EventLog, request_id: str
) -> None:
    response = await client.get(f"{AUDIT}/{request_id}", params={"content": "true"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "audit_record_not_found"


@pytest.mark.parametrize("path", [AUDIT, f"{AUDIT}/req_1", f"{AUDIT}/req_1?content=true"])
async def test_nobody_reads_without_the_admin_token(app: FastAPI, log: EventLog, path: str) -> None:
    await log.request("req_1", 1, sent=SENT, tenant="acme")
    async with client_of(app) as stranger:
        response = await stranger.get(path, headers={"authorization": "Bearer wrong"})
    assert response.status_code == 401
    assert "Gr" not in response.text


@pytest.fixture
async def away(unused_port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway whose database is away."""
    engine = create_engine(f"postgresql://127.0.0.1:{unused_port}/none")
    async with client_of(admin_app(None, Settings(admin_token=TOKEN), engine)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client
    await engine.dispose()


@pytest.mark.parametrize("path", [AUDIT, f"{AUDIT}/req_1"])
async def test_a_database_that_is_away_is_said_to_be(away: httpx.AsyncClient, path: str) -> None:
    response = await away.get(path)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "database_unavailable"
    assert "retry-after" in response.headers


async def test_both_routes_are_documented(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    names = {parameter["name"] for parameter in paths[AUDIT]["get"]["parameters"]}
    assert names == {
        "since", "until", "key_id", "tenant", "model", "outcome", "conversation", "text",
        "after", "limit",
    }  # fmt: skip
    shown = paths[f"{AUDIT}/{{request_id}}"]["get"]["responses"]["200"]
    schema = shown["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    properties = app.openapi()["components"]["schemas"][schema]["properties"]
    assert {"request_id", "level", "conversation", "exchange"} <= set(properties)
