"""Calls on their way to a real Redis that hangs, dies, forgets, refuses and comes back."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis

from app.limits.enforcer import LimitsUnavailable
from app.limits.redis_lane import MAX_WAITING_CALLS, RedisLane
from app.limits.redis_wire import Reply
from app.limits.shared import HEARTBEAT, SharedLimits
from app.limits.subjects import Decision, Spending
from tests.integration.limits.conftest import PREFIX
from tests.support.limited import demand, key
from tests.support.redis_moments import PATIENCE_SECONDS, running_lane, script
from tests.support.redis_server import RedisServer

ECHO = script("return ARGV[1]")
WRITE = script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
# Long enough for a loaded machine, short enough to wait for.
SILENCE_SECONDS = 1.0


@pytest.fixture(autouse=True)
async def nothing_is_left_over() -> AsyncIterator[None]:
    """Neither an exception that nobody saw, nor a connection that nobody closed."""
    left: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert left == []


@pytest.fixture
async def lane(redis_server: RedisServer) -> AsyncIterator[RedisLane]:
    async with running_lane(redis_server.url) as lane:
        yield lane


@pytest.fixture
async def hasty_lane(redis_server: RedisServer) -> AsyncIterator[RedisLane]:
    async with running_lane(redis_server.url, timeout_seconds=SILENCE_SECONDS) as lane:
        await echo(lane, "connected")
        yield lane


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator["Redis"]:
    with redis_server.client() as client:
        yield client


async def echo(lane: RedisLane, text: str) -> str:
    reply: bytes = await lane.call(ECHO, ("key",), (text,))
    return reply.decode()


async def write(lane: RedisLane) -> int:
    reply: int = await lane.call(WRITE, ("key",), (1,))
    return reply


async def outcomes(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def all_unavailable(results: list[Any]) -> bool:
    return all(isinstance(result, LimitsUnavailable) for result in results)


async def test_calls_that_come_together_each_get_their_own_reply(lane: RedisLane) -> None:
    texts = [str(number) for number in range(200)]
    assert await asyncio.gather(*(echo(lane, text) for text in texts)) == texts


async def test_a_call_that_fails_takes_no_other_with_it(lane: RedisLane, redis: "Redis") -> None:
    redis.set("other", "no number")

    async def fail() -> Any:
        return await lane.call(WRITE, ("other",), (1,))

    for _ in range(2):
        first = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it is on its way, alone
        wrong, right, also_wrong, also_right = await outcomes(
            first, echo(lane, "one"), fail(), echo(lane, "two")
        )
        assert (right, also_right) == ("one", "two")
        assert all_unavailable([wrong, also_wrong])
        assert "not an integer" in str(wrong)


async def test_who_gives_up_leaves_no_reply_for_another(
    lane: RedisLane, redis_server: RedisServer
) -> None:
    await echo(lane, "connected")
    redis_server.stop()
    calls = [asyncio.create_task(echo(lane, f"early {number}")) for number in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    later = [asyncio.create_task(echo(lane, f"late {number}")) for number in range(20)]
    await asyncio.sleep(0)
    for call in later[::2]:
        call.cancel()
    redis_server.cont()
    assert await asyncio.gather(*calls[1::2]) == [f"early {n}" for n in range(1, 20, 2)]
    assert await asyncio.gather(*later[1::2]) == [f"late {n}" for n in range(1, 20, 2)]


async def test_what_was_given_up_before_it_left_is_not_done(
    lane: RedisLane, redis: "Redis"
) -> None:
    """Its end may be in the same batch, and would be heard of first where only its script is
    unknown."""
    call = asyncio.ensure_future(lane.call(WRITE, ("key",), (1,)))
    await asyncio.sleep(0)  # it waits, and the lane has not run yet
    call.cancel()
    assert await echo(lane, "later") == "later"
    assert redis.get("key") is None


async def test_a_hung_redis_keeps_nobody_and_its_late_replies_reach_nobody(
    hasty_lane: RedisLane, redis_server: RedisServer
) -> None:
    for round_ in range(2):
        redis_server.stop()
        early = [asyncio.create_task(echo(hasty_lane, "unheard")) for _ in range(50)]
        await asyncio.sleep(SILENCE_SECONDS / 4)
        late = [asyncio.create_task(echo(hasty_lane, "unheard")) for _ in range(50)]
        assert all_unavailable(await outcomes(*early, *late))
        redis_server.cont()
        texts = [f"{round_}/{number}" for number in range(50)]
        assert await asyncio.gather(*(echo(hasty_lane, text) for text in texts)) == texts


async def test_a_caller_that_leaves_as_its_call_fails_leaves_no_error_behind(
    hasty_lane: RedisLane, redis_server: RedisServer
) -> None:
    redis_server.stop()
    call = asyncio.create_task(echo(hasty_lane, "unheard"))
    companion = asyncio.create_task(echo(hasty_lane, "unheard"))
    companion.add_done_callback(lambda _: call.cancel())
    await outcomes(call, companion)
    redis_server.cont()


async def test_a_restarted_redis_is_found_again_and_taught_the_scripts_in_one_call(
    lane: RedisLane, redis_server: RedisServer
) -> None:
    assert await write(lane) == 1
    redis_server.restart()
    assert await asyncio.gather(write(lane), echo(lane, "again"), write(lane)) == [1, "again", 2]


async def test_scripts_that_redis_forgot_are_taught_again(lane: RedisLane, redis: "Redis") -> None:
    assert await asyncio.gather(write(lane), echo(lane, "one"), write(lane)) == [1, "one", 2]
    redis.script_flush()
    assert await write(lane) == 3
    redis.script_flush()
    assert await asyncio.gather(echo(lane, "two"), write(lane), write(lane)) == ["two", 4, 5]
    assert redis.info("stats")["total_connections_received"] <= 4


async def test_a_redis_that_is_gone_is_away_until_it_is_back(
    lane: RedisLane, redis_server: RedisServer
) -> None:
    assert await write(lane) == 1
    redis_server.kill()
    assert all_unavailable(await outcomes(*(write(lane) for _ in range(20))))
    with pytest.raises(LimitsUnavailable):
        await lane.open()
    redis_server.restart()
    await lane.open()
    assert await write(lane) == 1


async def test_a_replica_that_must_not_be_written_is_away(
    lane: RedisLane, redis_server: RedisServer, redis: "Redis"
) -> None:
    assert await write(lane) == 1
    redis.replicaof("127.0.0.1", redis_server.port)  # of itself: nothing comes
    results = await outcomes(write(lane), write(lane))
    assert all_unavailable(results)
    assert "read only" in str(results[0])
    with pytest.raises(LimitsUnavailable):
        await write(lane)
    redis.replicaof("NO", "ONE")
    assert await write(lane) == 2


async def test_a_replica_that_was_the_primary_is_connected_to_anew(
    lane: RedisLane, redis_server: RedisServer, redis: "Redis"
) -> None:
    """Behind its name another one may be the primary by now."""
    await write(lane)
    redis.replicaof("127.0.0.1", redis_server.port)
    before = redis.info("stats")["total_connections_received"]
    for _ in range(2):
        with pytest.raises(LimitsUnavailable):
            await write(lane)
    assert redis.info("stats")["total_connections_received"] > before


async def test_a_full_redis_is_away(lane: RedisLane, redis: "Redis") -> None:
    limits = SharedLimits(lane, prefix=PREFIX, lease_seconds=30, recount_seconds=30)
    redis.config_set("maxmemory", 1)
    for _ in range(2):
        with pytest.raises(LimitsUnavailable, match="maxmemory"):
            await limits.admit(demand(key(requests_per_minute=5)))
    redis.config_set("maxmemory", 0)
    assert isinstance(await limits.admit(demand(key(requests_per_minute=5))), Decision)


async def test_a_key_of_another_type_is_away_and_hurts_nobody_else(
    lane: RedisLane, redis: "Redis"
) -> None:
    limits = SharedLimits(lane, prefix=PREFIX, lease_seconds=30, recount_seconds=30)
    redis.set(f"{PREFIX}{{acme}}:key:key_bad", "a string")
    bad, good = await outcomes(
        limits.admit(demand(key("key_bad", requests_per_minute=5))),
        limits.admit(demand(key("key_good", requests_per_minute=5))),
    )
    assert isinstance(bad, LimitsUnavailable)
    assert isinstance(good, Decision)


async def test_a_redis_that_asks_for_a_password_is_away(
    redis_server: RedisServer, redis: "Redis"
) -> None:
    redis.config_set("requirepass", "secret")
    async with running_lane(redis_server.url) as lane:
        assert all_unavailable(await outcomes(write(lane), write(lane)))
    named = redis_server.url.replace("redis://", "redis://:wrong@")
    async with running_lane(named) as lane:
        with pytest.raises(LimitsUnavailable) as away:
            await write(lane)
        assert "secret" not in str(away.value)
    named = redis_server.url.replace("redis://", "redis://:secret@")
    async with running_lane(named) as lane:
        assert await write(lane) == 1


async def test_a_script_that_is_not_one_is_away(lane: RedisLane) -> None:
    with pytest.raises(LimitsUnavailable):
        await lane.call(script("return nothing()"), ("key",), ())
    with pytest.raises(LimitsUnavailable):
        await lane.call(script("this is no Lua"), ("key",), ())
    assert await echo(lane, "on") == "on"


async def test_every_script_runs_on_every_server_by_its_own_clock(redis_url: str) -> None:
    """As production runs them: elsewhere tests tell them the time."""
    async with running_lane(redis_url) as lane:
        limits = SharedLimits(lane, prefix=PREFIX, lease_seconds=30, recount_seconds=30)
        assert await limits.beat("one", 15) == 1
        subject = key(requests_per_minute=5, tokens_per_minute=100, tokens_per_day=100)
        for finish in (False, True):
            began = await limits.begin_recount(subject)
            assert began is not None
            if finish:
                assert await limits.finish_recount(subject, began, 0, 0)
            else:
                await limits.abandon_recount(subject, began)
        one = demand(subject, tokens=60)
        for _ in range(2):
            decision = await limits.admit(one)
            assert isinstance(decision, Decision)
            assert decision.refusal is None
            assert decision.standing.requests is not None
            assert decision.standing.requests.remaining == 4
        await limits.renew(subject, {one.request_id: 60, "req_lost": 10})
        settled = await limits.settle(one, Spending(20))
        assert began <= settled.at <= began + 600
        await limits.settle(demand(subject, name="req_lost"), Spending(10))
        decision = await limits.admit(demand(subject, tokens=70))
        assert isinstance(decision, Decision)
        assert decision.budget_left == (0,)
        assert decision.standing.tokens is not None
        assert decision.standing.tokens.remaining in range(10, 20)


class SilentWire:
    """Never answers; `error` is what it raises."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def exchange(self, commands: Any) -> list[Reply]:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError


async def test_nobody_waits_for_a_lane_that_has_ended() -> None:
    lane = RedisLane(SilentWire(), timeout_seconds=60)
    run = asyncio.create_task(lane.run())
    under_way = asyncio.create_task(lane.call(HEARTBEAT, ("key",), ()))
    await asyncio.sleep(0.01)
    queued = asyncio.create_task(lane.call(HEARTBEAT, ("key",), ()))
    await asyncio.sleep(0)
    run.cancel()
    await outcomes(run)
    async with asyncio.timeout(PATIENCE_SECONDS):
        results = await outcomes(under_way, queued, lane.call(HEARTBEAT, ("key",), ()))
    assert all_unavailable(results)


async def test_a_defect_keeps_nobody_waiting() -> None:
    lane = RedisLane(SilentWire(RuntimeError("a defect")), timeout_seconds=60)
    run = asyncio.create_task(lane.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert all_unavailable(await outcomes(lane.call(HEARTBEAT, ("key",), ())))
    [error] = await outcomes(run)
    assert isinstance(error, RuntimeError)


async def test_no_more_calls_wait_than_memory_has_room_for() -> None:
    lane = RedisLane(SilentWire(), timeout_seconds=60)
    run = asyncio.create_task(lane.run())
    calls = [
        asyncio.create_task(lane.call(HEARTBEAT, ("key",), ()))
        for _ in range(MAX_WAITING_CALLS + 1)
    ]
    await asyncio.sleep(0)
    with pytest.raises(LimitsUnavailable, match="too many"):
        await calls[-1]
    run.cancel()
    assert all_unavailable(await outcomes(*calls))
    await outcomes(run)
