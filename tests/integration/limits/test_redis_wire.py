"""One connection, whoever uses it: nobody reads what was meant for another."""

import asyncio

from redis import Redis

from app.limits.redis_wire import make_wire

SLOW_SCRIPT = "for i = 1, 1000000 do end return 7"


async def test_a_probe_that_connects_does_not_mix_with_a_call(redis_url: str) -> None:
    """Both find the connection closed: the heartbeat opens it, and so does whoever sends."""
    wire = make_wire(redis_url, cluster=False, connect_seconds=2)
    await wire.open()
    try:
        for _ in range(3):
            (own,) = await wire.exchange([("CLIENT", "ID")])
            with Redis.from_url(redis_url) as other:
                other.client_kill_filter(_id=own)
            replies = await asyncio.gather(
                wire.open(),
                wire.exchange([("EVAL", "return 1", 0)]),
                wire.open(),
                wire.exchange([("EVAL", "return 2", 0), ("EVAL", "return 3", 0)]),
            )
            assert replies == [None, [1], None, [2, 3]]
    finally:
        await wire.close()


async def test_a_call_does_not_wait_for_a_probe_longer_than_it_may(redis_url: str) -> None:
    """What is cancelled while another uses the connection leaves it as it is."""
    wire = make_wire(redis_url, cluster=False, connect_seconds=2)
    try:
        slow = asyncio.create_task(wire.exchange([("EVAL", SLOW_SCRIPT, 0)]))
        await asyncio.sleep(0)
        impatient = asyncio.create_task(wire.exchange([("EVAL", "return 1", 0)]))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await slow == [7]
        assert await wire.exchange([("EVAL", "return 2", 0)]) == [2]
    finally:
        await wire.close()
