"""SGLang goes on when its client has left, so it is told to stop, whatever made us stop."""

import asyncio

import pytest

from app.settings import Engine
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 20.0  # only spent on failure
STREAM = {"model": "qwythos", "messages": HELLO, "stream": True}
ENDLESS = Answer(["word "] * 10_000, pace_seconds=0.01)


async def is_aborted(worker: ScriptedWorker, request: int = 1) -> None:
    """Fails unless the worker is told to stop that request, by the id that it was given."""
    rid = (await worker.received(request)).json["rid"]
    await eventually(lambda: rid in worker.aborted, WITHIN_SECONDS, f"an abort of {rid}")


async def test_a_client_that_leaves(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        worker.answers(ENDLESS)
        async with gateway.raw() as client:
            await client.post(CHAT, gateway.key, STREAM)
            await client.head()
        await is_aborted(worker)


async def test_a_client_that_leaves_before_anything_came(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        worker.answers(Answer(breaks=Break(End.HANG, None)))
        async with gateway.raw() as client:
            await client.post(CHAT, gateway.key, STREAM)
            await worker.received()
        await is_aborted(worker)


async def test_a_stop_sequence(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        worker.answers(ENDLESS)
        stream = await gateway.stream(stop=["word word word"])
        assert stream.finish_reasons == ["stop"]
        await is_aborted(worker)


@pytest.mark.parametrize("after", [None, 0, 3])
async def test_a_worker_that_takes_too_long(after: int | None, start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker, first_byte_seconds=0.2, inter_token_seconds=0.2)
        worker.answers(Answer(breaks=Break(End.HANG, after)))
        await gateway.chat()
        await is_aborted(worker)


async def test_an_answer_that_takes_too_long_in_all(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker, answer_seconds=0.5)
        worker.answers(ENDLESS)
        await gateway.chat()
        await is_aborted(worker)


async def test_a_drain_that_is_over(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        worker.answers(ENDLESS)
        asked = asyncio.ensure_future(gateway.chat(stream=True))
        await worker.received()
        gateway.drain.begin()
        gateway.drain.expire()
        await asked
        await is_aborted(worker)


async def test_an_answer_that_came_to_its_end_is_not_aborted(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        for _ in range(3):
            assert (await gateway.chat()).status == 200
        rids = [request.json["rid"] for request in worker.requests]
        assert len(set(rids)) == 3
        assert not set(rids) & set(worker.aborted)


async def test_a_worker_that_is_deaf_to_it_holds_nobody_up(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        worker.answers(ENDLESS)
        worker.deaf_to_aborts = True
        stream = await gateway.stream(stop=["word word"])
        assert stream.finish_reasons == ["stop"]
        await eventually(lambda: worker.aborted != [], WITHIN_SECONDS, "an abort")


async def test_other_engines_are_told_by_the_closed_connection(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(ENDLESS)
    await gateway.stream(stop=["word word"])
    await worker.closed(worker.only, within=WITHIN_SECONDS)
    assert "rid" not in worker.only.json
    assert "/abort_request" not in worker.paths
