"""Postgres is away for a while under load: nobody notices, and nothing is lost or counted twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.spool import shipper
from app.store.database import create_engine
from app.store.migrate import upgrade
from tests.integration.audit.promises.asking import (
    COMPLETED,
    WITHIN_SECONDS,
    charged,
    ends,
    readiness,
)
from tests.integration.audit.promises.whole_log import read_log
from tests.integration.audit.replica import verified
from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import PEPPER, Json, RunningGateway, running_gateway
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.scripted_worker import ScriptedWorker

USED = 50 + 30
REQUESTS = 60  # of one load
LOADS = 4  # before the outage, over its beginning, within it, and over its end
AT_ONCE = 6
SPARE = AT_ONCE * 400  # more than so many prompts with their history are taken for


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def migrated(server: PostgresServer) -> str:
    engine = create_engine(server.url)
    await upgrade(engine)
    await engine.dispose()
    return server.url


@pytest.fixture
async def gateway(
    migrated: str, worker: ScriptedWorker, root: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningGateway]:
    """Whose keys may be used for longer than the outage lasts, and which looks soon after it."""
    monkeypatch.setattr(shipper, "MAX_RETRY_SECONDS", 0.1)
    async with running_gateway(
        migrated,
        [worker],
        audit_directory=root,
        audit_checkpoint_seconds=0.2,
        key_cache_seconds=0.05,
        key_outage_seconds=600,
    ) as gateway:
        yield gateway


async def test_an_outage_is_noticed_by_nobody_and_nothing_is_lost_or_counted_twice(
    gateway: RunningGateway, server: PostgresServer, worker: ScriptedWorker, root: Path
) -> None:
    worker.answers(Answer(prompt_tokens=50, completion_tokens=30))
    key = await gateway.issue_key(tokens_per_day=LOADS * REQUESTS * USED + SPARE)
    answered: dict[str, list[Json]] = {}  # by request id, what was asked

    async def client() -> None:
        asked: list[Json] = []
        for number in range(REQUESTS // AT_ONCE):
            asked = [*asked, {"role": "user", "content": f"Question {number} of {id(asked)}?"}]
            response = await gateway.chat(key=key, max_tokens=30, stream=True, messages=asked)
            assert response.stream.finish_reasons == ["stop"]
            answered[response.request_id] = asked
            asked = [*asked, {"role": "assistant", "content": response.stream.text()}]

    async def load() -> None:
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))

    await load()
    running = asyncio.ensure_future(load())
    await asyncio.to_thread(server.stop)
    await running
    assert (await readiness(gateway))[0] == 200
    await load()
    running = asyncio.ensure_future(load())
    await asyncio.to_thread(server.start)
    await running

    async def shipped() -> bool | None:
        found = await ends(gateway.engine)
        return (len(found) == len(answered) and set(found.values()) == {COMPLETED}) or None

    await gateway.engine.dispose()  # its connections died with the server
    assert await eventually_found(shipped, WITHIN_SECONDS, "all records have come")
    logged = await read_log(gateway.engine)
    assert logged.keys() == answered.keys()
    for request_id, asked in answered.items():
        assert (logged[request_id].asked, logged[request_id].answer) == (asked, "Hello there.")
    keys = derived_signing_keys(PEPPER.encode()).public_keys
    assert (await verified(gateway.engine, root, keys=keys)).findings.in_order() == []
    assert await charged(gateway.engine) == len(answered) * USED
    assert (await gateway.chat(key=key, max_tokens=SPARE)).status == 429
    async with running_gateway(server.url, [worker]) as another:
        assert (await another.chat(key=key, max_tokens=SPARE)).status == 429
