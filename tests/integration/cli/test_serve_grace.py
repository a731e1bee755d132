"""Between SIGTERM and the drain: load balancers have not noticed yet, and still send requests."""

import asyncio

import aiohttp

from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import CHAT, HELLO
from tests.support.raw_client import RawClient, connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import Serving, serving

ASKED = {"model": "qwythos", "messages": HELLO, "stream": True}
LONG_SECONDS = 600.0  # a grace that no test waits for
WITHIN_SECONDS = 60.0  # only spent on failure


async def until_draining(served: Serving) -> None:
    """All connections have been told by then, and `/readyz` says 503."""

    async def told() -> bool | None:
        async with http.get(f"{served.url}/metrics") as page:
            return True if "gateway_draining 1.0" in await page.text() else None

    async with aiohttp.ClientSession() as http:
        await eventually_found(told, WITHIN_SECONDS, "a gateway that drains")
        async with http.get(f"{served.url}/readyz") as answer:
            assert answer.status == 503


async def answered_in_full(client: RawClient, key: str) -> dict[str, str]:
    """The headers of a stream that came to its end."""
    await client.post(CHAT, key, ASKED)
    head = await client.head()
    assert head.status == 200
    assert b"".join(await client.chunks()).endswith(b"data: [DONE]\n\n")
    return dict(head.headers)


async def test_what_still_comes_is_served_and_the_next_request_sent_elsewhere(
    database_url: str, worker: ScriptedWorker, key: str
) -> None:
    async with (
        serving(
            database_url,
            worker,
            drain_grace_seconds=LONG_SECONDS,
            drain_seconds=LONG_SECONDS,
            commit_after_seconds=LONG_SECONDS,  # no status line leaves before it is told to
        ) as served,
        connected(served.port) as kept,
        connected(served.port) as awaiting,
    ):
        assert "connection" not in await answered_in_full(kept, key)
        told = asyncio.Event()
        worker.answers(Answer(until=told))
        await awaiting.post(CHAT, key, ASKED)
        await worker.received(2)
        served.terminate()
        await until_draining(served)
        worker.answers(Answer())
        told.set()
        assert (await awaiting.head()).headers["connection"] == "close"
        async with connected(served.port) as late:
            assert (await answered_in_full(late, key))["connection"] == "close"
            assert await late.at_end()
        # A connection that was kept alive is not cut: a request may be on its way.
        assert (await answered_in_full(kept, key))["connection"] == "close"
        assert served.process.returncode is None
        served.terminate()  # a second signal ends the grace
        assert await served.exit_code() == 0


async def test_after_the_grace_it_refuses_and_ends_with_its_last_stream(
    database_url: str, worker: ScriptedWorker, key: str
) -> None:
    worker.answers(Answer(["word "] * 10_000, pace_seconds=0.02), Answer())
    async with (
        serving(database_url, worker, drain_grace_seconds=0.3) as served,
        connected(served.port) as running,
    ):
        await running.post(CHAT, key, ASKED)
        await running.head()
        served.terminate()

        async def refused() -> bool | None:
            async with connected(served.port) as client:
                await client.post(CHAT, key, ASKED)
                head = await client.head()
                return head.headers.get("x-gateway-draining") == "true" or None

        await eventually_found(refused, WITHIN_SECONDS, "a refusal")
        running.leave()
        assert await served.exit_code() == 0


async def test_ctrl_c_does_not_wait_for_load_balancers(
    database_url: str, worker: ScriptedWorker
) -> None:
    async with serving(
        database_url,
        worker,
        "--processes",
        "2",
        drain_grace_seconds=LONG_SECONDS,
        drain_seconds=LONG_SECONDS,
    ) as served:
        served.interrupt()
        assert await served.exit_code() == 0
