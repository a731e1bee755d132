"""Workers that answer, but not as they should: none of it takes the gateway down with it."""

import asyncio

import pytest
from aiohttp import web

from app.settings import Settings, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.client import WorkerClient
from app.upstream.pool import Pool
from app.upstream.prober import Prober
from tests.support.conditions import eventually_found
from tests.support.gateway import StartGateway
from tests.support.scripted_worker import ScriptedWorker

CARDS = ["{}", "[]", '{"data":[]}', '{"data":[{}]}', '{"data":[{"id":"m","meta":7}]}', "<html>", ""]


@pytest.mark.parametrize("card", CARDS)
async def test_a_worker_that_describes_itself_badly_is_not_ready(
    card: str, unused_port: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=card, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_port).start()
    settings = Settings()
    worker = WorkerSettings.model_validate({"url": f"http://127.0.0.1:{unused_port}"})
    pool = Pool([worker])
    async with WorkerClient(settings) as client:
        await Prober(pool, client, settings, Metrics()).probe_all()
    await runner.cleanup()
    assert not pool.ready


async def test_a_worker_that_was_lost_is_looked_for_at_once(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, probe_seconds=60.0)
    await worker.go_away()
    assert (await gateway.chat()).status == 502
    assert (await gateway.chat()).status == 503
    await worker.come_back()
    gateway.app.state.gateway.workers.pool.lost.set()

    async def answered() -> bool | None:
        return True if (await gateway.chat()).status == 200 else None

    await eventually_found(answered, 20, "the worker to be asked again")


async def test_a_kept_connection_that_the_worker_closed_is_no_failure(
    start_gateway: StartGateway, unused_port: int
) -> None:
    """It answers one request on each connection, and closes without saying so."""
    answered = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        head = await reader.readuntil(b"\r\n\r\n")
        if b"content-length" in head.lower():
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
        kind, body = b"application/json", b'{"data":[{"id":"m","max_model_len":32768}]}'
        if head.startswith(b"POST"):
            answered += 1
            kind, body = b"text/event-stream", EVENTS
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s"
            % (kind, len(body), body)
        )
        await writer.drain()
        # Closed only when the next request is on its way: nothing could have told before.
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", unused_port)
    async with server:
        gateway = await start_gateway(
            workers=[{"url": f"http://127.0.0.1:{unused_port}", "max_model_len": 32768}],
            worker_check="off",
        )
        statuses = [(await gateway.chat()).status for _ in range(3)]
    assert statuses == [200, 200, 200]
    assert answered == 3


EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"reasoning":"A greeting."}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


async def test_comments_alone_are_silence(start_gateway: StartGateway, unused_port: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"data": [{"id": "m", "max_model_len": 32768}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b": ping\n\n")
            await asyncio.sleep(0.05)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_port).start()
    gateway = await start_gateway(
        workers=[{"url": f"http://127.0.0.1:{unused_port}", "max_model_len": 32768}],
        first_byte_seconds=0.5,
        worker_check="off",
    )
    response = await gateway.chat()
    await runner.cleanup()
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
