"""A client that leaves: its worker stops within a second, and the record is written."""

from collections.abc import Callable

import pytest

from tests.support.answers import Answer
from tests.support.conditions import eventually, settled
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.raw_client import RawClient, request_bytes
from tests.support.scripted_worker import ScriptedWorker

CLOSE_SECONDS = 1.0
ENDLESS = [f"word {number} " for number in range(10_000)]
FLOOD = [f"{number:x<4096}" for number in range(5_000)]  # 20 MB
Leave = Callable[[RawClient], None]
ways_to_leave = pytest.mark.parametrize("leave", [RawClient.leave, RawClient.reset])


def asked(*, stream: bool) -> dict[str, object]:
    return {"model": "qwythos", "messages": HELLO, "stream": stream}


async def assert_cancelled(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    """The one request was given up at the worker, and its record says so."""
    request = await worker.received()
    await worker.closed(request, within=CLOSE_SECONDS)
    assert worker.running == 0
    request_id = request.header("x-request-id")
    assert request_id is not None
    row = await gateway.audited(request_id)
    assert (row.outcome, row.status, row.error_code) == ("cancelled", 499, "client_disconnected")
    assert row.worker == worker.url.removeprefix("http://")
    assert row.key_id == gateway.key_id
    assert row.prompt_tokens is not None
    assert row.prompt_tokens > 0
    assert row.duration_seconds is not None


@ways_to_leave
@pytest.mark.parametrize("stream", [True, False])
async def test_client_leaving_in_prefill_closes_the_worker_and_is_audited(
    stream: bool, leave: Leave, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=60))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, asked(stream=stream))
        await worker.received()
        leave(client)
        await assert_cancelled(gateway, worker)


@ways_to_leave
async def test_client_leaving_mid_stream_closes_the_worker_and_is_audited(
    leave: Leave, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(ENDLESS, reasoning=["thought"], pace_seconds=0.01))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, asked(stream=True))
        request_id = (await client.head()).headers["x-request-id"]
        for _ in range(5):
            await client.chunk()
        leave(client)
        await assert_cancelled(gateway, worker)
    row = await gateway.audited(request_id)
    assert row.completion_tokens is not None
    assert 0 < row.completion_tokens < 200
    assert row.reasoning_tokens == 1
    assert row.time_to_first_token_seconds is not None


@ways_to_leave
async def test_client_leaving_while_folded_closes_the_worker_and_is_audited(
    leave: Leave, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(ENDLESS, pace_seconds=0.01))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, asked(stream=False))
        request = await worker.received()
        await eventually(lambda: request.events_sent > 5, 20.0, "some of the answer")
        leave(client)
        await assert_cancelled(gateway, worker)
    row = await gateway.audited(request.header("x-request-id") or "")
    assert row.completion_tokens is not None
    assert 0 < row.completion_tokens < 200


async def test_client_leaving_during_a_pulse_closes_the_worker_and_is_audited(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker, commit_after_seconds=0.05, keep_alive_comment_seconds=0.05
    )
    worker.answers(Answer(prefill_seconds=60))
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, asked(stream=True))
        await client.head()
        await client.chunk()
        client.leave()
        await assert_cancelled(gateway, worker)


async def test_client_leaving_before_its_body_is_whole_asks_no_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async with gateway.raw() as client:
        whole = request_bytes(CHAT, gateway.key, b'{"model": "qwythos"}', "x-request-id: half")
        await client.send(whole[:-5])
        client.leave()
    # Seen to its end by a request that comes later on another connection.
    assert (await gateway.chat()).status == 200
    assert len(worker.requests) == 1


async def test_one_client_leaving_disturbs_no_other(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["word "] * 40, pace_seconds=0.01))
    async with gateway.raw() as leaving, gateway.raw() as staying:
        for client in (leaving, staying):
            await client.post(CHAT, gateway.key, asked(stream=True))
            await client.head()
        leaving.reset()
        body = b"".join(await staying.chunks())
        assert body.endswith(b"data: [DONE]\n\n")
        assert body.count(b"word ") == 40


async def test_a_client_that_stops_reading_slows_its_worker_down(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """What waits for a slow client is bounded: sockets and buffers, not the whole answer."""
    worker.answers(Answer(FLOOD))
    async with gateway.raw() as client:
        client.shrink_window(64 * 1024)
        await client.post(CHAT, gateway.key, asked(stream=True))
        await client.head()
        client.stop_reading()
        request = await worker.received()
        await settled(lambda: request.events_sent, 20.0)
        assert request.events_sent < 4_000
        client.reset()
        await assert_cancelled(gateway, worker)


async def test_a_client_that_never_reads_again_is_cut_off(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, client_stall_seconds=0.2)
    worker.answers(Answer(FLOOD))
    async with gateway.raw() as client:
        client.shrink_window(64 * 1024)
        await client.post(CHAT, gateway.key, asked(stream=True))
        await client.head()
        client.stop_reading()
        request = await worker.received()
        await worker.closed(request, within=20.0)
        row = await gateway.audited(request.header("x-request-id") or "")
        assert row.outcome == "cancelled"
