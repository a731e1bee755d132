"""Who floods the gateway is held back by address, and nobody else is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.search import find_audit_record
from app.store.secrets import mint_secret
from tests.support.gateway import CHAT, Response, RunningGateway, StartGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

FAILURES = 3  # so that none comes back within 20 s, however slow the machine is
MODELS = "/v1/models"
ADMIN_TOKEN = "admin-token-for-tests"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
# What a client may say about itself, besides the one header that a trusted proxy writes.
UNHEARD = {
    "X-Real-IP": "203.0.113.1",
    "Forwarded": "for=203.0.113.1",
    "X-Client-IP": "203.0.113.1",
    "True-Client-IP": "203.0.113.1",
}


@pytest.fixture
async def gateway(start_gateway: StartGateway, worker: ScriptedWorker) -> RunningGateway:
    return await start_gateway(worker, failed_authentications_per_minute=FAILURES)


def made_up() -> str:
    """A secret of the right form that was never issued."""
    return mint_secret(b"another pepper").secret


def from_client(address: str) -> dict[str, str]:
    return {"x-forwarded-for": address}


async def guess(gateway: RunningGateway, headers: dict[str, str] | None = None) -> Response:
    return await gateway.request("GET", MODELS, key=made_up(), headers=headers)


async def use_up(gateway: RunningGateway, headers: dict[str, str] | None = None) -> None:
    for _ in range(FAILURES):
        assert (await guess(gateway, headers)).status == 401


@contextmanager
def key_queries(gateway: RunningGateway) -> Iterator[list[str]]:
    """What the gateway asks its database about keys meanwhile."""
    engine: AsyncEngine = gateway.app.state.engine
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "api_keys" in statement or "api_key_secrets" in statement:
            asked.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


async def test_guesses_beyond_the_bucket_are_refused_before_the_key_store_is_asked(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await gateway.chat()).status == 200
    with key_queries(gateway) as asked:
        await use_up(gateway)
        assert len(asked) == FAILURES
        refused = await guess(gateway)
        assert len(asked) == FAILURES
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert refused.error["type"] == "rate_limit_error"
    assert "Please try again in" in refused.error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert int(refused.headers["retry-after-ms"]) <= 60_000
    completion = await gateway.chat(key=made_up())
    assert (completion.status, completion.error["code"]) == (429, "rate_limit_exceeded")
    assert len(worker.requests) == 1
    # Nor is anything written: a flood of strangers would cost the database all the same.
    await gateway.audited((await gateway.chat()).request_id)
    for response in (refused, completion):
        assert await find_audit_record(gateway.engine, response.request_id) is None


async def test_guesses_at_the_same_time_do_not_get_past_the_bucket_together(
    gateway: RunningGateway,
) -> None:
    with key_queries(gateway) as asked:
        answers = await asyncio.gather(*(guess(gateway) for _ in range(10 * FAILURES)))
    assert len(asked) == FAILURES
    statuses = [answer.status for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (FAILURES, 9 * FAILURES)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic dXNlcjpwYXNz", "Bearer garbage", "Bearer \xe9"]
)
async def test_what_is_no_key_at_all_counts_as_well(
    gateway: RunningGateway, authorization: str
) -> None:
    headers = {"authorization": authorization}
    with key_queries(gateway) as asked:
        for _ in range(FAILURES):
            response = await gateway.request("POST", CHAT, body=chat_body(), headers=headers)
            assert response.status == 401
        assert (await guess(gateway)).status == 429
        response = await gateway.request("POST", CHAT, body=chat_body(), headers=headers)
        assert response.status == 429
    assert asked == []


async def test_a_key_that_this_process_knows_works_on_where_others_fail(
    gateway: RunningGateway,
) -> None:
    unseen = await gateway.issue_key()
    assert (await gateway.request("GET", MODELS)).status == 200
    await use_up(gateway)
    assert (await gateway.request("GET", MODELS)).status == 200
    assert (await gateway.chat()).status == 200
    assert (await gateway.request("GET", MODELS, key=unseen)).status == 429


async def test_many_new_keys_at_once_are_no_failures(gateway: RunningGateway) -> None:
    secrets = [await gateway.issue_key() for _ in range(10 * FAILURES)]
    answers = await asyncio.gather(
        *(gateway.request("GET", MODELS, key=secret) for secret in secrets)
    )
    assert {answer.status for answer in answers} == {200}


async def test_an_outage_of_the_database_is_no_failure_of_the_client(
    gateway: RunningGateway,
) -> None:
    async with gateway.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO hidden")
    try:
        for _ in range(FAILURES + 1):
            response = await guess(gateway)
            assert (response.status, response.error["code"]) == (503, "key_store_unavailable")
    finally:
        async with gateway.engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE hidden RENAME TO api_keys")
    assert (await guess(gateway)).status == 401


async def test_failures_are_counted_by_reason(gateway: RunningGateway) -> None:
    await gateway.request("GET", MODELS, headers={"authorization": "Bearer"})
    await gateway.request("GET", MODELS, key="garbage")
    await guess(gateway)
    await guess(gateway)
    async with gateway.http.get(gateway.url + MODELS) as response:
        assert response.status == 429
    lines = (await gateway.request("GET", "/metrics")).body.decode().splitlines()
    counted = {
        reason: value
        for line in lines
        if line.startswith("gateway_authentication_failures_total{")
        for reason, value in [line.partition('reason="')[2].split('"} ')]
    }
    assert counted == {"missing": "0.0", "malformed": "2.0", "unknown": "1.0", "throttled": "2.0"}


async def test_without_trusted_proxies_a_client_is_its_connection(gateway: RunningGateway) -> None:
    for number in range(FAILURES):
        headers = UNHEARD | from_client(f"203.0.113.{number}")
        failed = await guess(gateway, headers)
        assert failed.status == 401
        assert (await gateway.audited(failed.request_id)).client_ip == "127.0.0.1"
    assert (await guess(gateway, from_client("203.0.113.99"))).status == 429


async def test_behind_a_trusted_proxy_each_client_has_its_own_bucket(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker, trusted_proxies=["127.0.0.1"], failed_authentications_per_minute=FAILURES
    )
    await use_up(gateway, from_client("198.51.100.1, 2001:db8::1"))
    for same in ("2001:db8::1", "203.0.113.5, 2001:db8::ffff", "[2001:db8::1]:4711"):
        assert (await guess(gateway, UNHEARD | from_client(same))).status == 429
    other = await guess(gateway, from_client("2001:db8:0:1::1"))
    assert other.status == 401
    assert (await gateway.audited(other.request_id)).client_ip == "2001:db8:0:1::1"
    assert (await guess(gateway, UNHEARD)).status == 401  # of the proxy itself
    served = await gateway.request(
        "POST", CHAT, body=chat_body(), headers=from_client("203.0.113.7:1234")
    )
    assert served.status == 200
    assert (await gateway.audited(served.request_id)).client_ip == "203.0.113.7"


async def test_the_flood_guards_count_the_client_behind_a_trusted_proxy(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, trusted_proxies=["127.0.0.0/8"], admin_token=ADMIN_TOKEN)
    for path in ("/docs", "/admin/v1/keys"):
        for _ in range(60):
            await gateway.request("GET", path, headers=ADMIN | from_client("203.0.113.1"))
        for client, status in (("203.0.113.1", 429), ("203.0.113.2", 200)):
            response = await gateway.request("GET", path, headers=ADMIN | from_client(client))
            assert response.status == status


async def test_whatever_is_asked_for_below_the_admin_routes_is_counted(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, admin_token=ADMIN_TOKEN)
    asked = [
        ("GET", "/admin/v1/nothing", 404),
        ("PUT", "/admin/v1/keys", 405),
        ("GET", "/admin/v1", 404),
        ("GET", "/admin/v1/keys", 401),  # with an API key
        ("GET", "/admin/v1/%6beys", 401),
        ("GET", "/admin/v1/../v1/keys", 401),
    ]
    for number in range(60):
        method, path, status = asked[number % len(asked)]
        response = await gateway.request(method, path)
        assert (method, path, response.status) == (method, path, status)
    for method, path, _ in asked:
        refused = await gateway.request(method, path, headers=ADMIN)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.request_id.startswith("req_")
    assert (await gateway.request("GET", "/admin/v10")).status == 404
    assert (await gateway.request("GET", MODELS)).status == 200
