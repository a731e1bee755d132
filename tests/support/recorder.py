"""What a real worker said, word for word: a relay between the gateway and it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

RELAYED_HEADERS = ("content-type", "authorization")


class Recorder:
    """`url` stands in for the worker's."""

    def __init__(self, worker_url: str) -> None:
        self._worker_url = worker_url
        self.url = ""
        self._answers: list[bytes] = []

    def text(self) -> str:
        """All content of the last completion, thought and all."""
        text = ""
        for line in self._answers[-1].split(b"\n"):
            if line.startswith(b"data: {"):
                for choice in json.loads(line[len(b"data: ") :]).get("choices", ()):
                    text += choice["delta"].get("content") or ""
        return text

    async def relay(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() in RELAYED_HEADERS}
        answer = b""
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                self._worker_url + request.path,
                data=await request.read(),
                headers=headers,
            ) as upstream,
        ):
            response = web.StreamResponse(
                status=upstream.status, headers={"content-type": upstream.headers["content-type"]}
            )
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                answer += data
                await response.write(data)
        if request.path.endswith("/completions"):
            self._answers.append(answer)
        return response


@asynccontextmanager
async def recorded(worker_url: str) -> AsyncIterator[Recorder]:
    recorder = Recorder(worker_url)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", recorder.relay)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    recorder.url = f"http://{host}:{port}"
    try:
        yield recorder
    finally:
        await runner.cleanup()
