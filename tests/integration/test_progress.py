"""What a client that wants to know is told while its prompt waits and is read."""

import json
from typing import Any

import pytest

from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, RunningGateway, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker
from tests.support.sse_events import read_stream

PULSE = {"commit_after_seconds": 0.1, "keep_alive_comment_seconds": 0.1}
PLAIN = b": keep-alive\n\n"
WANTED = "x-gateway-progress: true"
STREAM = chat_body(stream=True)


def progress(comment: bytes) -> dict[str, Any]:
    assert comment.startswith(b": keep-alive {")
    assert comment.endswith(b"}\n\n")
    assert comment.count(b"\n") == 2  # one line: what stands behind an end of line is no comment
    told: dict[str, Any] = json.loads(comment.removeprefix(b": keep-alive "))
    assert set(told) == {"queue_place", "prompt_tokens", "seconds_left"}
    return told


async def first_comment(gateway: RunningGateway, *headers: str) -> bytes:
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, gateway.key, STREAM, *headers))
        assert (await client.head()).status == 200
        return await client.chunk()


async def test_a_prompt_that_is_read_has_a_length_and_no_place(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(prefill_seconds=60))
    told = progress(await first_comment(gateway, WANTED))
    assert told["queue_place"] == 0
    assert told["prompt_tokens"] > 0
    assert told["seconds_left"] is None  # how fast the worker reads nobody has seen yet


async def test_who_waits_for_a_worker_is_told_its_place(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, worker_prefill_tokens=1, **PULSE)
    worker.answers(Answer(prefill_seconds=60))
    dispatcher = gateway.app.state.gateway.workers.dispatcher
    async with gateway.raw() as reading, gateway.raw() as waiting:
        await reading.send(request_bytes(CHAT, gateway.key, STREAM))
        await worker.received()
        await waiting.send(request_bytes(CHAT, gateway.key, STREAM))
        await eventually(lambda: dispatcher.waiting == 1, 20.0, "the second one waits")
        told = progress(await first_comment(gateway, WANTED))
    assert told["queue_place"] == 2


async def test_the_seconds_left_are_told_once_the_worker_was_seen_to_read(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.max_model_len = 1_010_000
    gateway = await start_gateway(worker, **PULSE)
    long = [{"role": "user", "content": "word " * 8_000}]
    worker.answers(Answer(prefill_seconds=0.2, prompt_tokens=8_000), Answer(prefill_seconds=60))
    assert (await gateway.chat(messages=long)).status == 200
    async with gateway.raw() as client:
        other = [{"role": "user", "content": "other " * 80_000}]
        body = chat_body(messages=other, stream=True, max_tokens=100)
        await client.send(request_bytes(CHAT, gateway.key, body, WANTED))
        await client.head()
        assert progress(await client.chunk())["seconds_left"] > 0


@pytest.mark.parametrize(
    "headers", [(), ("x-gateway-progress: false",), ("x-gateway-progress: 1",)]
)
async def test_others_get_the_bare_comment(
    headers: tuple[str, ...], start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(prefill_seconds=60))
    assert await first_comment(gateway, *headers) == PLAIN


async def test_an_sdk_reads_on_over_it(start_gateway: StartGateway, worker: ScriptedWorker) -> None:
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(["Hello", " there."], prefill_seconds=0.5))
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(
            model="qwythos",
            messages=[{"role": "user", "content": "Hello!"}],
            stream=True,
            extra_headers={"x-gateway-progress": "true"},
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Hello there."


async def test_who_reads_along_is_told_of_the_request_that_runs(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(prefill_seconds=60))
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, gateway.key, STREAM))
        await worker.received()
        retry = "x-stainless-retry-count: 1"
        assert progress(await first_comment(gateway, WANTED, retry))["prompt_tokens"] > 0
    assert len(worker.requests) == 1


async def test_a_client_that_waits_less_long_is_kept_alive_more_often(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """Three comments within its timeout, though never more than one a second."""
    gateway = await start_gateway(worker)
    worker.answers(Answer(prefill_seconds=2.5))
    async with gateway.raw() as client:
        timeout = "x-stainless-read-timeout: 0.001"
        await client.send(request_bytes(CHAT, gateway.key, STREAM, timeout))
        await client.head()
        stream = read_stream(b"".join(await client.chunks()))
    assert stream.comments in (1, 2)  # one where the machine stood still for a moment
    assert stream.text() == "Hello there."
