"""Tenants that may go on while nothing can be recorded, and those that may not."""

import errno

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.store.tenant_records import TenantRecords
from tests.integration.audit.promises.asking import check_refused, counted, until_ready
from tests.support.conditions import eventually_found
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.gateway import HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 60.0  # only spent on failure
COUNTER = "gateway_audit_open_metadata_total"
REQUESTS = 4
NONCE = "NONCE1b6d"
ASKED = [{"role": "user", "content": NONCE}]


@pytest.fixture
async def gateway(
    disk: FaultyDisk, start_gateway: StartGateway, worker: ScriptedWorker
) -> RunningGateway:
    # More than the real disk below takes where nothing holds it.
    gateway = await start_gateway(worker, audit_write_seconds=2.0)
    await TenantRecords(gateway.engine).update("easy", {"audit_on_failure": "open_metadata"})
    return gateway


async def ask_all(gateway: RunningGateway, key: str) -> list[str]:
    """Of the one tenant they are served, of the other refused."""
    ids = []
    for number in range(REQUESTS):
        response = await gateway.chat(key=key, stream=number % 2 == 0, messages=ASKED)
        assert response.status == 200
        assert b"Hello" in response.body
        ids.append(response.request_id)
        check_refused(await gateway.chat())
    return ids


async def check_recorded(gateway: RunningGateway, ids: list[str]) -> None:
    """Each once, in the end."""

    async def recorded() -> list[tuple[str, int, int]] | None:
        async with gateway.engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT request_id, kind, count(*) FROM audit_events"
                    " WHERE request_id = ANY(:ids) GROUP BY 1, 2"
                ),
                {"ids": ids},
            )
            found = [(row[0], row[1], row[2]) for row in rows]
            return found if len(found) >= 2 * len(ids) else None

    found = await eventually_found(recorded, WITHIN_SECONDS, "all are recorded")
    assert sorted(found) == sorted((request_id, kind, 1) for request_id in ids for kind in (1, 2))
    for request_id in ids:
        assert (await gateway.audited(request_id)).outcome == "completed"


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC], ids=["failing", "full"])
async def test_while_the_disk_fails_they_are_served_and_recorded_later(
    disk: FaultyDisk, gateway: RunningGateway, worker: ScriptedWorker, fault: int
) -> None:
    key = await gateway.issue_key(tenant="easy")
    assert (await gateway.chat(key=key)).status == 200
    disk.fail(Operation.WRITE, fault)
    disk.fail(Operation.CREATE, fault)
    with capture_logs() as logs:
        ids = await ask_all(gateway, key)
    told = [
        (line["event_kind"], line["record"]["request_id"])
        for line in logs
        if line["event"] == "audit_open_metadata"
    ]
    assert told == [(kind, one) for one in ids for kind in ("intent", "outcome")]
    assert NONCE not in str(logs)
    assert await counted(gateway, COUNTER) == REQUESTS
    disk.heal()
    await until_ready(gateway)
    await check_recorded(gateway, ids)


async def test_while_the_disk_hangs_they_are_served_and_recorded_once(
    disk: FaultyDisk, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(tenant="easy")
    assert (await gateway.chat(key=key)).status == 200
    with disk.hold_syncs():
        ids = await ask_all(gateway, key)
    await until_ready(gateway)
    await check_recorded(gateway, ids)
    assert await counted(gateway, COUNTER) == REQUESTS


async def test_a_refusal_of_theirs_is_recorded_later_too(
    disk: FaultyDisk, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(tenant="easy")
    assert (await gateway.chat(key=key)).status == 200
    disk.fail(Operation.WRITE)
    disk.fail(Operation.CREATE)
    check_refused(await gateway.chat())
    response = await gateway.chat(key=key, model="another", messages=HELLO)
    assert response.status == 404
    models = await gateway.request("GET", "/v1/models", key=key)
    assert models.status == 200
    disk.heal()
    for one in (response, models):
        assert (await gateway.audited(one.request_id)).status == one.status
