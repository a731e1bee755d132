"""A prefill that has cost much goes on without its client, where the key has it so."""

import asyncio
from typing import Any

import pytest

from tests.support.answers import Answer
from tests.support.coming_again import ask, joined, only_run, running, start
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, RunningGateway, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ReceivedRequest, ScriptedWorker

CLOSE_SECONDS = 1.0
SECONDS = 20.0  # for what has to come; only spent on failure
LONG_GRACE = 60
ALL_IS_DEAR = {"leave_min_prefill_seconds": 0}


async def left(gateway: RunningGateway, worker: ScriptedWorker, key: str) -> ReceivedRequest:
    """The worker's request of a client that has left, which the gateway has seen."""
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, key, chat_body()))
        request = await worker.received()
        run = only_run(gateway)
        client.reset()
        await eventually(lambda: run.client_gone, SECONDS, "the client was seen to leave")
    return request


async def test_a_dear_prefill_goes_on_and_the_same_request_gets_its_answer(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """Without a header that says that it comes again: the client of the first one is gone."""
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=LONG_GRACE)
    is_read = asyncio.Event()
    worker.answers(Answer(["Hello", " again."], until=is_read))
    request = await left(gateway, worker, key)
    coming_again = start(ask(gateway, key=key))
    await joined(gateway)
    is_read.set()
    again = await coming_again
    assert again.message["content"] == "Hello again."
    assert worker.only is request
    assert request.completed
    first = await gateway.audited(request.header("x-request-id") or "")
    assert (first.outcome, first.error_code) == ("cancelled", "client_disconnected")
    assert first.findings == {"went_on": True}
    assert first.completion_tokens == 3
    assert first.charged_tokens is not None
    assert (await gateway.audited(again.request_id)).findings == {"attached_to": first.request_id}


async def test_what_is_finished_is_kept_for_the_rest_of_the_grace(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=LONG_GRACE)
    is_read = asyncio.Event()
    worker.answers(Answer(["Hello", " again."], until=is_read))
    request = await left(gateway, worker, key)
    is_read.set()
    await gateway.audited(request.header("x-request-id") or "")
    again = await ask(gateway, key=key, stream=True)
    assert again.stream.text() == "Hello again."
    # It was had, so that a third one is another wish.
    assert "x-gateway-attached-to" in again.headers
    assert "x-gateway-attached-to" not in (await ask(gateway, key=key)).headers
    assert len(worker.requests) == 2


async def test_it_is_given_up_at_the_end_of_the_grace(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=1)
    worker.answers(Answer(prefill_seconds=60))
    request = await left(gateway, worker, key)
    assert request.closed_at is None
    await worker.closed(request, within=1 + CLOSE_SECONDS)
    row = await gateway.audited(request.header("x-request-id") or "")
    assert (row.outcome, row.status, row.findings) == ("cancelled", 499, {"went_on": True})
    assert len(running(gateway)) == 0


async def test_what_is_not_had_in_time_is_forgotten(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=1)
    is_read = asyncio.Event()
    worker.answers(Answer(until=is_read))
    await left(gateway, worker, key)
    is_read.set()
    await eventually(lambda: len(running(gateway)) == 0, SECONDS, "it was forgotten")
    assert running(gateway).held_bytes == 0
    assert "x-gateway-attached-to" not in (await ask(gateway, key=key)).headers


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({}, {"finish_after_leaving_seconds": LONG_GRACE}),  # a cheap prefill
        (ALL_IS_DEAR, {}),
        (ALL_IS_DEAR, {"finish_after_leaving_seconds": 0}),
    ],
)
async def test_otherwise_it_is_given_up_at_once(
    settings: dict[str, Any],
    policy: dict[str, Any],
    start_gateway: StartGateway,
    worker: ScriptedWorker,
) -> None:
    gateway = await start_gateway(worker, **settings)
    key = await gateway.issue_key(**policy)
    worker.answers(Answer(prefill_seconds=60))
    request = await left(gateway, worker, key)
    await worker.closed(request, within=CLOSE_SECONDS)


async def test_whoever_waits_for_a_worker_has_cost_nothing(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, worker_prefill_tokens=1, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=LONG_GRACE)
    worker.answers(Answer(prefill_seconds=60))
    async with gateway.raw() as reading, gateway.raw() as waiting:
        await reading.send(request_bytes(CHAT, gateway.key, chat_body()))
        await worker.received()
        await waiting.send(request_bytes(CHAT, key, chat_body()))
        dispatcher = gateway.app.state.gateway.workers.dispatcher
        await eventually(lambda: dispatcher.waiting == 1, SECONDS, "the second one waits")
        waiting.reset()
        await eventually(lambda: dispatcher.waiting == 0, SECONDS, "it waits no longer")
        await eventually(lambda: len(running(gateway)) == 1, SECONDS, "it was given up")


async def test_nothing_goes_on_where_nobody_can_come_back(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=LONG_GRACE)
    worker.answers(Answer(prefill_seconds=60))
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, key, chat_body()))
        request = await worker.received()
        gateway.drain.begin()
        client.reset()
        await worker.closed(request, within=CLOSE_SECONDS)


async def test_an_answer_too_long_to_be_kept_is_given_up(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, replay_bytes=5_000, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=LONG_GRACE)
    worker.answers(Answer(["word "] * 10_000, pace_seconds=0.005))
    request = await left(gateway, worker, key)
    await worker.closed(request, within=SECONDS)
    assert request.events_sent > 20


async def test_a_drain_that_is_over_ends_what_goes_on(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=LONG_GRACE)
    worker.answers(Answer(prefill_seconds=60))
    request = await left(gateway, worker, key)
    assert gateway.drain.in_flight == 1
    gateway.drain.begin()
    gateway.drain.expire()
    await worker.closed(request, within=CLOSE_SECONDS)
    row = await gateway.audited(request.header("x-request-id") or "")
    assert (row.outcome, row.error_code) == ("drained", "server_shutting_down")
