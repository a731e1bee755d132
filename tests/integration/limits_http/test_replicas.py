"""Three replicas, each a process of its own, over one Redis and one Postgres.

A bucket is refilled while a test runs, by its limit each minute: what may be admitted is bounded by
the time that it took.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import IssuedKey, KeyStore
from app.store.policy import Limits, Policy
from tests.conftest import flush_redis
from tests.integration.limits_http.conftest import PATIENT_SECONDS
from tests.integration.limits_http.limiting import (
    NOTHING_HELD,
    PREFIX,
    WITHIN_SECONDS,
    Budget,
    audited_tokens,
    budget_of,
    held,
)
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import CHAT, HELLO, PEPPER
from tests.support.raw_client import connected
from tests.support.redis_server import VALKEY
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLICAS = 3
CLIENTS = 64
MAX_TOKENS = 88
ENDLESS = Answer(["word "], breaks=Break(End.HANG, 3))  # behind its word


@dataclass(frozen=True)
class Burst:
    admitted: int
    seconds: float


class Pool:
    """Three replicas, their worker, and what stands behind them."""

    def __init__(
        self, replicas: list[Serving], worker: ScriptedWorker, engine: AsyncEngine, redis: Redis
    ) -> None:
        self.replicas = replicas
        self.worker = worker
        self.engine = engine
        self.redis = redis
        self.keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)

    async def issue(self, *, tenant: str = "acme", **limits: int) -> IssuedKey:
        return await self.keys.create(
            KeyDraft(name="limited", tenant=tenant, policy=Policy(**limits))
        )

    async def burst(self, *secrets: str) -> Burst:
        """64 streams, asked for at once and spread over replicas and keys, stay open until all have
        their status."""
        self.worker.answers(ENDLESS)
        all_answered = asyncio.Barrier(CLIENTS)
        asked = {"model": "qwythos", "messages": HELLO, "stream": True, "max_tokens": MAX_TOKENS}

        async def ask(number: int) -> int:
            replica = self.replicas[number % REPLICAS]
            async with connected(replica.port) as client:
                await client.post(CHAT, secrets[number % len(secrets)], asked)
                status = (await client.head()).status
                await all_answered.wait()
                return status

        loop = asyncio.get_running_loop()
        began = loop.time()
        statuses = await asyncio.gather(*map(ask, range(CLIENTS)))
        seconds = loop.time() - began
        assert set(statuses) <= {200, 429}
        await self.nothing_held()
        return Burst(statuses.count(200), seconds)

    async def nothing_held(self) -> None:
        await eventually(
            lambda: held(self.redis) == NOTHING_HELD, WITHIN_SECONDS, "nothing is held any more"
        )


@pytest.fixture(scope="module")
def module_redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    url: str = request.getfixturevalue("redis_url_of")(VALKEY)
    flush_redis(url)
    with Redis.from_url(url, decode_responses=True) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool(
    database_url: str, module_redis: Redis, request: pytest.FixtureRequest
) -> AsyncIterator[Pool]:
    url = request.getfixturevalue("redis_url_of")(VALKEY)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(ScriptedWorker())
        worker.prompt_tokens = 50  # more than is estimated: a second look helps nobody
        replicas = await asyncio.gather(
            *(
                stack.enter_async_context(
                    serving(
                        database_url,
                        worker,
                        redis_url=url,
                        recount_delay_seconds=0.5,
                        redis_timeout_seconds=PATIENT_SECONDS,
                    )
                )
                for _ in range(REPLICAS)
            )
        )
        engine = create_engine(database_url)
        stack.push_async_callback(engine.dispose)
        yield Pool(replicas, worker, engine, module_redis)


@pytest.fixture(autouse=True)
def clean_redis(module_redis: Redis) -> None:
    """But for the replicas' own heartbeats."""
    for name in module_redis.scan_iter("gateway:{*"):
        module_redis.delete(name)


async def cost_of(pool: Pool) -> int:
    """What is reserved for a request of a burst, in tokens."""
    issued = await pool.issue(tokens_per_minute=10**6, tenant="probe")
    pool.worker.answers(Answer())
    async with aiohttp.ClientSession() as http:
        response = await ask(http, pool.replicas[0], issued.secret)
        assert response.status == 200
        return 10**6 - int(response.headers["x-ratelimit-remaining-tokens"])


async def ask(http: aiohttp.ClientSession, replica: Serving, secret: str) -> aiohttp.ClientResponse:
    """A whole answer, read to its end."""
    headers = {"authorization": f"Bearer {secret}"}
    body = {"model": "qwythos", "messages": HELLO, "max_tokens": MAX_TOKENS}
    async with http.post(replica.url + CHAT, json=body, headers=headers) as response:
        await response.read()
        return response


def assert_exact(burst: Burst, limit: int, *, each: int = 1) -> None:
    """Of a bucket that holds `limit`, and gives `each` to a request."""
    refilled = limit * burst.seconds / 60
    assert limit // each <= burst.admitted <= (limit + refilled) // each


async def test_the_three_know_of_each_other(pool: Pool) -> None:
    assert pool.redis.zcard(f"{PREFIX}replicas") == REPLICAS


async def test_requests_a_minute(pool: Pool) -> None:
    issued = await pool.issue(requests_per_minute=11)
    assert_exact(await pool.burst(issued.secret), 11)


async def test_tokens_a_minute(pool: Pool) -> None:
    cost = await cost_of(pool)
    limit = cost * 9 + cost // 2
    issued = await pool.issue(tokens_per_minute=limit)
    assert_exact(await pool.burst(issued.secret), limit, each=cost)


async def test_concurrency(pool: Pool) -> None:
    issued = await pool.issue(concurrency=7)
    for _ in range(2):  # the first time gives all of it back
        assert (await pool.burst(issued.secret)).admitted == 7


async def test_a_tenant_over_two_keys(pool: Pool) -> None:
    """Each key alone would be let do more."""
    cost = await cost_of(pool)
    tokens = cost * 8 + cost // 2
    for tenant, limits, limit, each in (
        ("by-requests", Limits(requests_per_minute=9), 9, 1),
        ("by-tokens", Limits(tokens_per_minute=tokens), tokens, cost),
        ("by-concurrency", Limits(concurrency=10), 10, 1),
    ):
        await pool.keys.update_tenant(tenant, {"limits": limits})
        pair = [await pool.issue(tenant=tenant, requests_per_minute=1_000) for _ in range(2)]
        burst = await pool.burst(*(issued.secret for issued in pair))
        if tenant == "by-concurrency":
            assert burst.admitted == limit
        else:
            assert_exact(burst, limit, each=each)


async def test_a_budget(pool: Pool) -> None:
    """At no time is more spent and held than there is; and what is spent is what was audited."""
    limit = 3_000
    issued = await pool.issue(tokens_per_day=limit)
    pool.worker.answers(
        Answer(prompt_tokens=50, completion_tokens=MAX_TOKENS - 50, pace_seconds=0.01)
    )
    finished = asyncio.Event()
    seen: list[Budget] = []

    async def watch() -> None:
        while not finished.is_set():
            budget = budget_of(pool.redis, "acme", issued.key.id)
            if budget is not None:
                seen.append(budget)
            await asyncio.sleep(0.002)

    async def spend(replica: Serving, http: aiohttp.ClientSession) -> int:
        """How many were answered, until there is nothing left."""
        answered = 0
        while True:
            response = await ask(http, replica, issued.secret)
            if response.status == 200:
                answered += 1
            elif "x-should-retry" in response.headers:
                return answered
            else:  # others hold the rest
                assert response.status == 429
                await asyncio.sleep(0.01)

    watching = asyncio.get_running_loop().create_task(watch())
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        asyncio.timeout(WITHIN_SECONDS * 3),
        aiohttp.ClientSession(connector=connector) as http,
    ):
        clients = (spend(pool.replicas[number % REPLICAS], http) for number in range(CLIENTS))
        answered = sum(await asyncio.gather(*clients))
    finished.set()
    await watching
    assert len(seen) > 3
    assert max(budget.taken for budget in seen) <= limit
    assert max(budget.held for budget in seen) > 0
    await pool.nothing_held()
    last = budget_of(pool.redis, "acme", issued.key.id)
    assert last is not None
    assert last == Budget(answered * MAX_TOKENS, 0, 0)
    assert limit - last.spent < MAX_TOKENS + 50  # no more would have fitted

    async def audited() -> bool | None:
        return await audited_tokens(pool.engine, issued.key.id) == last.spent or None

    await eventually_found(audited, WITHIN_SECONDS, "the audit log's sum is the budget's")
