"""Gateways killed again and again under load: whoever saw an end finds it in the record."""

import asyncio
import json
import random
import socket
from asyncio import TaskGroup
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from tests.integration.audit.promises.asking import COMPLETED, CRASHED, WITHIN_SECONDS, ends
from tests.integration.audit.promises.nursery import Forked, nursery
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, PEPPER, StartGateway
from tests.support.scripted_worker import ScriptedWorker

SEED = 7
KILLS = 10
AHEAD = 3  # processes that start meanwhile; they are killed too, with nothing of their own
CLIENTS = 6
# What the clients see of one process before it is killed: heads, pieces of streams, ends.
MAX_SIGHTS = 150
POLL_SECONDS = 0.01

# Quick ones and slow ones, so that a kill finds some at every point.
ANSWERS = [
    Answer(),
    Answer(["word "] * 8, pace_seconds=0.005),
    Answer(prefill_seconds=0.05),
    Answer(["word "] * 20, pace_seconds=0.01),
]


@dataclass
class Clients:
    """They ask whichever gateway serves, and remember what they have seen."""

    key: str
    chance: random.Random
    serving: Forked | None = None
    sights: int = 0
    begun: set[str] = field(default_factory=set)  # by request id
    ended: set[str] = field(default_factory=set)
    stopped: bool = False

    async def run(self, http: aiohttp.ClientSession) -> None:
        while not self.stopped:
            if self.serving is None:
                await asyncio.sleep(POLL_SECONDS)
                continue
            with suppress(aiohttp.ClientError, ConnectionError):  # it was killed
                await self._ask(http, self.serving.url, stream=self.chance.random() < 0.7)

    async def _ask(self, http: aiohttp.ClientSession, url: str, *, stream: bool) -> None:
        body = orjson.dumps({"model": "qwythos", "messages": HELLO, "stream": stream})
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        async with http.post(url + CHAT, data=body, headers=headers) as response:
            request_id = response.headers["x-request-id"]
            assert response.status == 200, await response.text()
            self.begun.add(request_id)
            self.sights += 1
            seen = b""
            async for piece in response.content.iter_any():
                seen += piece
                self.sights += 1
                # Even if nothing more came, a client could rely on either.
                if b'"finish_reason":"stop"' in seen or b"[DONE]" in seen:
                    self.ended.add(request_id)


@pytest.fixture
async def clients(engine: AsyncEngine) -> AsyncIterator[Clients]:
    keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
    key = (await keys.create(KeyDraft(name="test"))).secret
    clients = Clients(key, random.Random(SEED))
    async with aiohttp.ClientSession() as http, TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(clients.run(http))
        yield clients
        clients.stopped = True


@pytest.mark.usefixtures("quick_look")
async def test_whoever_saw_an_end_finds_it_recorded_however_often_gateways_are_killed(
    clients: Clients,
    engine: AsyncEngine,
    database_url: str,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    root: Path,
) -> None:
    chance = random.Random(SEED)
    worker.answers(*chance.choices(ANSWERS, k=5_000))
    async with nursery() as gateways, TaskGroup() as group:

        def start() -> asyncio.Task[Forked]:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port: int = free.getsockname()[1]
            settings = {
                "database_url": database_url,
                "key_pepper": PEPPER,
                "workers": json.dumps([worker.settings()]),
                "audit_directory": root,
            }
            return group.create_task(gateways.serve(port, **settings))

        # They take over what those before have left while others serve.
        following = deque(start() for _ in range(AHEAD))
        for _ in range(KILLS):
            served = await following.popleft()
            following.append(start())
            clients.sights, clients.serving = 0, served
            enough = chance.randrange(1, MAX_SIGHTS)
            await eventually(lambda: clients.sights >= enough, WITHIN_SECONDS, "they are served")  # noqa: B023 - ends before the next turn
            clients.serving = None
            await served.kill()
        for starting in following:
            await (await starting).kill()

        await start_gateway(worker, audit_directory=root)
        await eventually(
            lambda: len(list(root.iterdir())) == 1, WITHIN_SECONDS, "what all have left is shipped"
        )
        found = await ends(engine)

    assert {found[request_id] for request_id in clients.ended} == {COMPLETED}
    assert set(found.values()) == {COMPLETED, CRASHED}  # each has one
    at_worker = {request.header("x-request-id") for request in worker.requests}
    assert found.keys() >= at_worker | clients.begun  # more were killed before they were sent on
    # The kills were where they hurt.
    assert len(clients.ended) > 5 * KILLS
    assert sum(end == CRASHED for end in found.values()) > KILLS
