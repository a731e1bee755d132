"""What the audit log takes of the database's connections."""

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from app.store.database import create_engine
from tests.support.conditions import eventually_found
from tests.support.gateway import StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 60.0  # only spent on failure


async def test_it_ships_on_one_of_its_own_and_requests_wait_for_none(
    start_gateway: StartGateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AsyncEngine] = []

    def note(url: str, *, connections: int) -> AsyncEngine:
        made.append(create_engine(url, connections=connections))
        return made[-1]

    monkeypatch.setattr("app.audit.start.create_engine", note)
    gateway = await start_gateway(worker)
    (own,) = made
    pool = own.pool
    assert isinstance(pool, QueuePool)
    assert pool.size() == 1

    async def taken() -> AsyncConnection | None:
        try:
            return await own.connect()
        except PoolTimeoutError:  # the log has it
            return None

    connection = await eventually_found(taken, WITHIN_SECONDS, "the connection is free")
    try:
        response = await gateway.chat()
        assert response.status == 200
    finally:
        await connection.close()
    assert (await gateway.audited(response.request_id)).outcome == "completed"
