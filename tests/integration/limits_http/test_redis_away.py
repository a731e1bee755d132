"""Redis hangs, dies, forgets, refuses: requests are answered, and limits go on holding."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.integration.limits_http.conftest import RECOUNT_DELAY_SECONDS
from tests.integration.limits_http.limiting import (
    NOTHING_HELD,
    WITHIN_SECONDS,
    Budget,
    audited_tokens,
    budget_of,
    held,
    issue,
    limiter_of,
    nothing_held,
    remaining,
)
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.raw_client import RawClient
from tests.support.redis_server import RedisServer
from tests.support.scripted_worker import ScriptedWorker

CLIENTS = 8
HANG_SECONDS = 1.0  # then it is given up; no loaded machine takes as long
ENDLESS = Answer(["word "], breaks=Break(End.HANG, 3))  # behind its word
DEGRADED = "gateway_limits_degraded"

Switch = Callable[[RedisServer], None]

pytestmark = pytest.mark.usefixtures("quick_probes")


async def degraded(*gateways: RunningGateway) -> None:
    await eventually(
        lambda: all(limiter_of(gateway).degraded for gateway in gateways),
        WITHIN_SECONDS,
        "Redis is given up",
    )
    for gateway in gateways:
        assert await gauge(gateway, DEGRADED) == 1


async def exact(*gateways: RunningGateway) -> None:
    await eventually(
        lambda: not any(limiter_of(gateway).degraded for gateway in gateways),
        WITHIN_SECONDS,
        "Redis is back",
    )
    for gateway in gateways:
        assert await gauge(gateway, DEGRADED) == 0


async def gauge(gateway: RunningGateway, name: str) -> float:
    metrics = (await gateway.request("GET", "/metrics")).body.decode()
    return next(
        float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} ")
    )


async def aware(replicas: int, *gateways: RunningGateway) -> None:
    """Returns once each has counted all of them."""
    for gateway in gateways:

        async def seen(gateway: RunningGateway = gateway) -> bool | None:
            return await gauge(gateway, "gateway_replicas") == replicas or None

        await eventually_found(seen, WITHIN_SECONDS, f"{replicas} replicas")


async def admitted(key: str, *gateways: RunningGateway, asked: int = 12) -> list[int]:
    """How many of so many requests each admits; the others are refused as they should be."""
    admitted = []
    for gateway in gateways:
        statuses = Counter([(await gateway.chat(key=key)).status for _ in range(asked)])
        assert set(statuses) <= {200, 429}
        admitted.append(statuses[200])
    return admitted


def events(logs: list[EventDict], name: str) -> int:
    return sum(entry["event"] == name for entry in logs)


@asynccontextmanager
async def load(*gateways: RunningGateway, keys: list[str]) -> AsyncIterator[Counter[int]]:
    """Requests without a pause, to all gateways with all keys, while it is open; their statuses."""
    statuses: Counter[int] = Counter()
    over = asyncio.Event()

    async def client(number: int) -> None:
        gateway, key = gateways[number % len(gateways)], keys[number // 2 % len(keys)]
        while not over.is_set():
            response = await gateway.chat(key=key, stream=number % 3 == 0)
            statuses[response.status] += 1
            if response.status == 429:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(client(number))
        try:
            yield statuses
        finally:
            over.set()


async def more(statuses: Counter[int], status: int = 200, count: int = 50) -> None:
    enough = statuses[status] + count
    await eventually(
        lambda: statuses[status] >= enough, WITHIN_SECONDS, f"{count} more answers {status}"
    )


async def test_redis_hangs_under_load(
    start_gateway: StartGateway, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    gateways = [
        await start_gateway(worker, redis_url=redis_server.url, redis_timeout_seconds=HANG_SECONDS)
        for _ in range(2)
    ]
    await aware(2, *gateways)
    wide = await issue(gateways[0], requests_per_minute=10**6, concurrency=100)
    small = await issue(gateways[0], requests_per_minute=1, tokens_per_minute=10**6)
    shared = await issue(gateways[0], requests_per_minute=4)
    with capture_logs() as logs:
        async with load(*gateways, keys=[wide.secret, small.secret]) as statuses:
            await more(statuses)
            redis_server.stop()
            await degraded(*gateways)
            await more(statuses)
            # Each enforces its share: neither none nor all.
            assert await admitted(shared.secret, *gateways) == [2, 2]  # one more in 30 s
            redis_server.cont()
            await exact(*gateways)
            await more(statuses)
        assert set(statuses) == {200, 429}
    for gateway in gateways:
        assert remaining((await gateway.chat(key=wide.secret)).headers, "requests") > 10**5
    assert events(logs, "limits_degraded") == len(gateways)
    assert events(logs, "limits_exact_again") == len(gateways)
    with redis_server.client() as redis:
        await nothing_held(redis, *gateways)
    again = await issue(gateways[0], requests_per_minute=3)  # one more in 20 s
    first, second = await admitted(again.secret, *gateways)
    assert (first, second) == (3, 0)


def hang(server: RedisServer) -> None:
    server.stop()


def end_hang(server: RedisServer) -> None:
    server.cont()


def die(server: RedisServer) -> None:
    server.kill()


def come_back(server: RedisServer) -> None:
    server.restart()


def become_read_only(server: RedisServer) -> None:
    with server.client() as redis:
        redis.replicaof("127.0.0.1", 1)  # of nobody


def become_master(server: RedisServer) -> None:
    with server.client() as redis:
        redis.replicaof("NO", "ONE")


def fill_up(server: RedisServer) -> None:
    with server.client() as redis:
        redis.config_set("maxmemory", 1)


def make_room(server: RedisServer) -> None:
    with server.client() as redis:
        redis.config_set("maxmemory", 0)


FAULTS: dict[str, tuple[Switch, Switch]] = {
    "it hangs": (hang, end_hang),
    "it is gone": (die, come_back),
    "it is read-only": (become_read_only, become_master),
    "it is full": (fill_up, make_room),
}
every_fault = pytest.mark.parametrize("fault", FAULTS)


@every_fault
async def test_it_is_away_at_the_start(
    fault: str, start_gateway: StartGateway, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    """The gateway starts nevertheless, with its share of the replicas that the settings name."""
    begin, end = FAULTS[fault]
    begin(redis_server)
    gateway = await start_gateway(
        worker, redis_url=redis_server.url, redis_timeout_seconds=HANG_SECONDS, replicas=4
    )
    await degraded(gateway)
    issued = await issue(gateway, requests_per_minute=4)
    assert await admitted(issued.secret, gateway) == [1]
    end(redis_server)
    await exact(gateway)
    issued = await issue(gateway, requests_per_minute=4)
    assert await admitted(issued.secret, gateway) == [4]


@every_fault
async def test_it_goes_while_a_stream_runs(
    fault: str, start_gateway: StartGateway, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    """The stream holds its place through the outage, and gives it back once."""
    begin, end = FAULTS[fault]
    gateway = await start_gateway(
        worker, redis_url=redis_server.url, redis_timeout_seconds=HANG_SECONDS, lease_seconds=1
    )
    issued = await issue(gateway, concurrency=1)
    worker.answers(ENDLESS)
    with redis_server.client() as redis:
        async with gateway.raw() as client:
            await stream(client, issued.secret)
            begin(redis_server)
            await degraded(gateway)
            assert (await gateway.chat(key=issued.secret)).status == 429
            end(redis_server)
            await exact(gateway)
            await eventually(
                lambda: held(redis).leases == 1, WITHIN_SECONDS, "the stream is known again"
            )
            assert (await gateway.chat(key=issued.secret)).status == 429
        await nothing_held(redis, gateway)
        worker.answers(Answer())
        assert (await gateway.chat(key=issued.secret)).status == 200


async def test_a_wrong_password(
    start_gateway: StartGateway, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    with redis_server.client() as redis:
        redis.config_set("requirepass", "right")
    url = redis_server.url.replace("redis://", "redis://:wrong@")
    with capture_logs() as logs:
        gateway = await start_gateway(worker, redis_url=url, redis_timeout_seconds=HANG_SECONDS)
        await degraded(gateway)
        issued = await issue(gateway, requests_per_minute=3)
        assert await admitted(issued.secret, gateway) == [3]
    assert events(logs, "limits_degraded") == 1
    assert "wrong" not in str([e for e in logs if e["event"] == "limits_degraded"])


async def test_it_is_restarted_empty_while_streams_run(
    start_gateway: StartGateway, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    """So quickly that nobody misses it: what runs is counted again when it is renewed, and what
    was spent is counted from the audit log."""
    gateway = await start_gateway(
        worker,
        redis_url=redis_server.url,
        redis_timeout_seconds=HANG_SECONDS,
        lease_seconds=1,
        recount_delay_seconds=RECOUNT_DELAY_SECONDS,
    )
    issued = await issue(gateway, concurrency=2, tokens_per_day=10_000, max_output_tokens=500)
    worker.answers(Answer(prompt_tokens=50, completion_tokens=400))
    finished = await gateway.chat(key=issued.secret)
    await gateway.audited(finished.request_id)
    worker.answers(ENDLESS)
    async with gateway.raw() as first, gateway.raw() as second:
        for client in (first, second):
            await stream(client, issued.secret)
        redis_server.restart()
        with redis_server.client() as redis:
            await eventually(
                lambda: held(redis).leases == 2, WITHIN_SECONDS, "the streams are known again"
            )
            assert (await gateway.chat(key=issued.secret)).status == 429
            budget = budget_of(redis, "acme", issued.key.id)
            assert budget is not None
            assert budget.spent == 450
            assert budget.held > 1_000
    with redis_server.client() as redis:
        await nothing_held(redis, gateway)
        await budget_is_audited(gateway, redis_server, issued.key.id)


async def test_a_budget_may_be_spent_up_to_an_allowance(
    start_gateway: StartGateway, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    gateway = await start_gateway(
        worker,
        redis_url=redis_server.url,
        redis_timeout_seconds=HANG_SECONDS,
        outage_budget_share=0.1,
        recount_delay_seconds=RECOUNT_DELAY_SECONDS,
    )
    worker.answers(Answer(prompt_tokens=50, completion_tokens=250))
    issued = await issue(gateway, tokens_per_month=10_000, max_output_tokens=250)
    assert (await gateway.chat(key=issued.secret)).status == 200
    redis_server.stop()
    await degraded(gateway)
    responses = [await gateway.chat(key=issued.secret) for _ in range(5)]
    assert [response.status for response in responses] == [200] * 3 + [503] * 2
    error = responses[-1].error
    assert (error["type"], error["code"]) == ("service_unavailable_error", "budget_unavailable")
    assert 1 <= int(responses[-1].headers["retry-after"]) <= 60
    redis_server.cont()
    await exact(gateway)
    assert (await gateway.chat(key=issued.secret)).status == 200
    await budget_is_audited(gateway, redis_server, issued.key.id)
    assert await audited_tokens(gateway.engine, issued.key.id) == 5 * 300


async def stream(client: RawClient, key: str) -> None:
    await client.post(CHAT, key, {"model": "qwythos", "messages": HELLO, "stream": True})
    assert (await client.head()).status == 200


async def budget_is_audited(gateway: RunningGateway, server: RedisServer, key_id: str) -> None:
    """Returns once what Redis says was spent is what the audit log says."""
    with server.client() as redis:

        async def same() -> bool | None:
            budget = budget_of(redis, "acme", key_id)
            return budget == Budget(await audited_tokens(gateway.engine, key_id), 0, 0) or None

        await eventually_found(same, WITHIN_SECONDS, "the budget is what was audited")
        assert held(redis) == NOTHING_HELD
