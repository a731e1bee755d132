"""A worker that is silent for long, as it is while it reads a million tokens."""

import asyncio

import pytest

from tests.support.answers import Answer, Break, End
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker
from tests.support.sse_events import read_stream

PULSE = {
    "commit_after_seconds": 0.1,
    "keep_alive_comment_seconds": 0.1,
    "empty_delta_seconds": 0.25,
}
STREAM = {"model": "qwythos", "messages": HELLO, "stream": True}
EMPTY = {"content": ""}


async def test_the_status_waits_for_the_first_data(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """So that a failure until then has a status of its own."""
    worker.answers(Answer(prefill_seconds=0.3))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, STREAM)
        with pytest.raises(TimeoutError):
            await client.head(within=0.2)
    worker.answers(Answer(prefill_seconds=0.1, breaks=Break(End.RESET)))
    response = await gateway.chat(stream=True)
    assert (response.status, response.error["code"]) == (502, "upstream_error")


async def test_the_status_leaves_when_the_client_has_waited_long_enough(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(prefill_seconds=30))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, STREAM)
        head = await client.head()
        assert head.status == 200
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert head.headers["cache-control"] == "no-cache"
        assert head.headers["x-accel-buffering"] == "no"
        assert await client.chunk() == b": keep-alive\n\n"


def was_silent_for_long(pieces: list[bytes]) -> bool:
    """Two comments came, and an empty delta behind the one with the role."""
    stream = read_stream(b"".join(pieces), whole=False)
    return stream.comments >= 2 and EMPTY in stream.deltas


async def test_a_silent_stream_is_kept_alive_by_comments_and_empty_deltas(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    is_read = asyncio.Event()
    worker.answers(Answer(["Hello", " there."], until=is_read))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, STREAM)
        await client.head()
        pieces = []
        while not was_silent_for_long(pieces):
            pieces.append(await client.chunk())
        is_read.set()
        pieces += await client.chunks()
    # Each write is whole: a proxy or a parser may look at them one by one.
    for piece in pieces:
        read_stream(piece, whole=False)
    stream = read_stream(b"".join(pieces))
    assert stream.comments >= 2
    assert stream.roles == ["assistant"]
    assert stream.deltas[0]["role"] == "assistant"
    assert sum(delta == EMPTY for delta in stream.deltas) >= 1
    assert stream.text() == "Hello there."
    assert stream.finish_reasons == ["stop"]


async def test_a_stream_is_kept_alive_while_the_model_thinks(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """Thoughts are dropped, so to the client a thinking worker is a silent one."""
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(["Hello"], reasoning=["hm "] * 40, pace_seconds=0.02))
    stream = await gateway.stream()
    assert stream.comments >= 1
    assert sum(delta == EMPTY for delta in stream.deltas) >= 1
    assert stream.roles == ["assistant"]
    assert stream.text() == "Hello"


async def test_keep_alives_stand_only_between_events(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker,
        commit_after_seconds=0.01,
        keep_alive_comment_seconds=0.01,
        empty_delta_seconds=0.03,
    )
    text = ["word \u2028"] * 50
    worker.answers(Answer(text, pace_seconds=0.015))
    stream = await gateway.stream(stream_options={"include_usage": True})
    assert stream.comments > 5
    assert stream.text() == "".join(text)
    assert stream.roles == ["assistant"]


async def test_an_ordinary_answer_has_no_keep_alive(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(pace_seconds=0.02))
    response = await gateway.chat(stream=True)
    assert response.stream.comments == 0
    assert EMPTY not in response.stream.deltas


async def test_a_folded_answer_says_nothing_before_its_end(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    worker.answers(Answer(prefill_seconds=0.4))
    response = await gateway.chat(stream=False)
    assert response.body.startswith(b"{")
    assert response.message["content"] == "Hello there."


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [None, 0])
async def test_silence_before_the_first_byte_is_a_504(
    after: int | None, stream: bool, start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, first_byte_seconds=0.2)
    worker.answers(Answer(breaks=Break(End.HANG, after)))
    response = await gateway.chat(stream=stream)
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    assert response.error["type"] == "server_error"
    await worker.closed(worker.requests[0], within=1.0)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.error_code) == ("failed", "upstream_timeout")


async def test_silence_between_tokens_ends_a_stream_with_an_error(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, inter_token_seconds=0.2)
    worker.answers(Answer(["Hello", " there, "], breaks=Break(End.HANG, 4)))
    response = await gateway.chat(stream=True)
    stream = response.stream
    assert stream.text() == "Hello there, "
    assert stream.finish_reasons == []
    assert stream.error is not None
    assert stream.error["code"] == "upstream_timeout"
    await worker.closed(worker.only, within=1.0)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("failed", 504, "upstream_timeout")
    assert row.completion_tokens == 3


async def test_silence_between_tokens_makes_a_folded_answer_a_504(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, inter_token_seconds=0.2)
    worker.answers(Answer(breaks=Break(End.HANG, 2)))
    response = await gateway.chat(stream=False)
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")


async def test_a_client_that_reads_slowly_is_not_the_workers_silence(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, inter_token_seconds=0.2)
    worker.answers(
        Answer([" ".join(map(str, range(20_000)))] * 200)
    )  # more than all buffers on the way hold
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, STREAM)
        await client.head()
        await asyncio.sleep(0.8)  # the client's own slowness, four times the worker's limit
        stream = read_stream(b"".join(await client.chunks()))
    assert stream.error is None
    assert stream.finish_reasons == ["stop"]


async def test_a_long_prompt_is_waited_for_longer(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker, first_byte_seconds=0.1, prefill_floor_tokens_per_second=2_000
    )
    worker.answers(Answer(breaks=Break(End.HANG, 0)), Answer(prefill_seconds=0.5))
    long = [{"role": "user", "content": "word " * 4_000}]
    assert (await gateway.chat(messages=HELLO)).status == 504
    assert (await gateway.chat(messages=long, max_tokens=100)).status == 200


async def test_a_failure_after_the_status_has_left_is_an_event(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **PULSE)
    has_begun = asyncio.Event()
    worker.answers(Answer(until=has_begun, breaks=Break(End.RESET)))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, STREAM)
        assert (await client.head()).status == 200
        first = await client.chunk()
        has_begun.set()
        stream = read_stream(first + b"".join(await client.chunks()))
    assert stream.comments >= 1
    assert stream.error is not None
    assert stream.error["code"] == "upstream_error"
    assert stream.text() == ""
