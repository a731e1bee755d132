from pathlib import Path

from redis.asyncio import Redis

from bench.valkey import valkey


async def test_valkey_tells_how_many_scripts_it_ran(tmp_path: Path) -> None:
    async with valkey(tmp_path) as running, Redis.from_url(running.url) as client:
        assert await running.scripts_run() == 0
        await client.eval("redis.call('SET', 'key', 1); return redis.call('GET', 'key')", 0)
        digest = await client.script_load("return 1")
        await client.evalsha(digest, 0)
        assert await running.scripts_run() == 2
