"""The same request, coming again while it is being answered, gets that answer."""

import asyncio
from dataclasses import replace

import pytest

from app.store.api_key import KeyChanges
from app.store.policy import Policy, Reasoning
from tests.support.answers import Answer, Break, End
from tests.support.coming_again import RETRY, ask, joined, only_run, running, start
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker

CLOSE_SECONDS = 1.0
SECONDS = 20.0  # for what has to come; only spent on failure
WORDS = [f"word {number} " for number in range(30)]
SLOW = Answer(WORDS, pace_seconds=0.02)
STANDS_AFTER = 10  # events, two of which are the role and the thought
IDEMPOTENT = {"idempotency-key": "a-request-of-mine"}
ways_to_read = pytest.mark.parametrize("stream", [True, False])


@pytest.fixture
def go_on() -> asyncio.Event:
    """Until then `standing` stands still, however long a test needs."""
    return asyncio.Event()


@pytest.fixture
def standing(go_on: asyncio.Event) -> Answer:
    return replace(SLOW, until=go_on, until_after=STANDS_AFTER)


@ways_to_read
@pytest.mark.parametrize("again_stream", [True, False])
async def test_a_retry_gets_the_running_answer_from_its_first_word_on(
    stream: bool,
    again_stream: bool,
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    """Each reads it in its own way."""
    worker.answers(standing)
    first = start(ask(gateway, stream=stream))
    request = await worker.received()
    await eventually(lambda: request.events_sent > 8, SECONDS, "some of the answer")
    again = start(ask(gateway, stream=again_stream, headers=RETRY))
    await joined(gateway)
    go_on.set()
    for response, streamed in ((await first, stream), (await again, again_stream)):
        text = response.stream.text() if streamed else response.message["content"]
        assert text == "".join(WORDS)
        reasons = (
            response.stream.finish_reasons
            if streamed
            else [response.json["choices"][0]["finish_reason"]]
        )
        assert reasons == ["stop"]
    assert len(worker.requests) == 1
    assert len(running(gateway)) == 0


async def test_each_has_a_record_and_the_tokens_are_charged_once(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    gateway = await start_gateway(worker)
    key = await gateway.issue_key(tokens_per_minute=1_000_000, requests_per_minute=100)
    worker.answers(standing)
    first = start(ask(gateway, key=key))
    await worker.received()
    coming_again = start(ask(gateway, key=key, headers=RETRY))
    await joined(gateway)
    go_on.set()
    again, original = await coming_again, await first
    assert again.headers["x-gateway-attached-to"] == original.request_id
    assert again.request_id != original.request_id
    assert again.json["id"] != original.json["id"]
    assert again.json["usage"] == original.json["usage"]
    assert again.headers["x-ratelimit-remaining-requests"] == "98"
    paid = await gateway.audited(original.request_id)
    free = await gateway.audited(again.request_id)
    assert (paid.outcome, free.outcome) == ("completed", "completed")
    assert paid.charged_tokens == original.json["usage"]["total_tokens"]
    assert not free.charged_tokens
    assert free.completion_tokens == 0
    assert free.worker is None
    assert free.findings == {"attached_to": original.request_id}


async def test_the_same_idempotency_key_gets_the_running_answer(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    worker.answers(standing)
    first = start(ask(gateway, headers=IDEMPOTENT))
    await worker.received()
    again = start(ask(gateway, headers=IDEMPOTENT))
    await joined(gateway)
    go_on.set()
    assert (await again).message == (await first).message
    assert len(worker.requests) == 1


async def test_two_at_once_with_one_idempotency_key_are_one(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    worker.answers(standing)
    asking = [start(ask(gateway, headers=IDEMPOTENT)) for _ in range(2)]
    await worker.received()
    await joined(gateway)
    go_on.set()
    both = await asyncio.gather(*asking)
    assert [response.status for response in both] == [200, 200]
    assert len(worker.requests) == 1


async def test_an_idempotency_key_that_is_in_use_for_another_body_is_a_conflict(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    worker.answers(standing)
    first = start(ask(gateway, headers=IDEMPOTENT))
    await worker.received()
    other = await ask(gateway, headers=IDEMPOTENT, temperature=0.9)
    assert (other.status, other.error["code"]) == (409, "idempotency_key_in_use")
    assert other.headers["x-should-retry"] == "false"
    go_on.set()
    assert (await first).status == 200
    # It is free again.
    assert (await ask(gateway, headers=IDEMPOTENT, temperature=0.9)).status == 200


async def test_another_keys_request_is_as_if_it_were_not_there(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    """Not even a conflict tells of it."""
    other_keys = [await gateway.issue_key(tenant="acme") for _ in range(2)]
    worker.answers(standing)
    first = start(ask(gateway, headers=IDEMPOTENT | RETRY))
    await worker.received()
    both = IDEMPOTENT | RETRY
    others = (
        start(ask(gateway, key=other_keys[0], headers=both)),
        start(ask(gateway, key=other_keys[1], headers=both, temperature=0.9)),
    )
    await worker.received(3)
    go_on.set()
    for response in await asyncio.gather(*others, first):
        assert response.status == 200
        assert "x-gateway-attached-to" not in response.headers
    assert len(worker.requests) == 3


async def test_requests_that_are_alike_and_say_nothing_of_it_are_two(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    """Whoever samples one prompt many times wants many answers."""
    worker.answers(standing)
    first = start(ask(gateway))
    await worker.received()
    again = start(ask(gateway))
    await worker.received(2)
    go_on.set()
    assert "x-gateway-attached-to" not in (await again).headers
    await first
    assert len(worker.requests) == 2


async def test_a_key_whose_policy_has_changed_gets_an_answer_of_its_own(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    gateway = await start_gateway(worker, key_cache_seconds=0.001)
    worker.answers(standing)
    first = start(ask(gateway))
    await worker.received()
    changed = KeyChanges(policy=Policy(reasoning=Reasoning.VISIBLE))
    await gateway.keys.update(gateway.key_id, changed)
    again = start(ask(gateway, headers=RETRY))
    await worker.received(2)
    go_on.set()
    assert "x-gateway-attached-to" not in (await again).headers
    await first


@ways_to_read
async def test_it_goes_on_for_who_reads_along_when_its_own_client_leaves(
    stream: bool,
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    worker.answers(standing)
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, {"model": "qwythos", "messages": HELLO})
        request = await worker.received()
        again = start(ask(gateway, stream=stream, headers=RETRY))
        await joined(gateway)
        run = only_run(gateway)
        client.reset()
        await eventually(lambda: run.client_gone, SECONDS, "the first one was seen to leave")
        go_on.set()
        response = await again
    text = response.stream.text() if stream else response.message["content"]
    assert text == "".join(WORDS)
    assert request.completed
    left = await gateway.audited(request.header("x-request-id") or "")
    assert (left.outcome, left.status, left.findings) == ("cancelled", 499, {"went_on": True})
    assert left.completion_tokens == len(WORDS) + 1  # and the thought
    assert (await gateway.audited(response.request_id)).outcome == "completed"


async def test_it_is_given_up_at_once_when_the_last_one_has_left(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=60))
    body = chat_body()
    async with gateway.raw() as client, gateway.raw() as again:
        await client.send(request_bytes(CHAT, gateway.key, body))
        request = await worker.received()
        await again.send(request_bytes(CHAT, gateway.key, body, "x-stainless-retry-count: 1"))
        await joined(gateway)
        client.reset()
        run = only_run(gateway)
        await eventually(lambda: run.client_gone, SECONDS, "the first one was seen to leave")
        assert request.closed_at is None
        again.reset()
        await worker.closed(request, within=CLOSE_SECONDS)
    row = await gateway.audited(request.header("x-request-id") or "")
    assert (row.outcome, row.error_code) == ("cancelled", "client_disconnected")
    assert len(running(gateway)) == 0


async def test_what_fails_fails_for_all(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    worker.answers(replace(standing, breaks=Break(End.ERROR, after=STANDS_AFTER + 1)))
    first = start(ask(gateway))
    await worker.received()
    coming_again = start(ask(gateway, headers=RETRY))
    await joined(gateway)
    go_on.set()
    again = await coming_again
    assert (again.status, again.error) == (502, (await first).error)
    row = await gateway.audited(again.request_id)
    assert (row.outcome, row.error_code) == ("failed", "upstream_error")


async def test_thoughts_and_calls_are_replayed_too(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    key = await gateway.issue_key(reasoning="visible")
    thought = [f"hm {number} " for number in range(20)]
    worker.answers(replace(standing, content=["Yes."], reasoning=thought))
    first = start(ask(gateway, key=key, stream=True))
    request = await worker.received()
    await eventually(lambda: request.events_sent > 8, SECONDS, "some of the thought")
    coming_again = start(ask(gateway, key=key, headers=RETRY))
    await joined(gateway)
    go_on.set()
    again = await coming_again
    assert again.message["reasoning"] == "".join(thought)
    assert again.message["content"] == "Yes."
    await first


async def test_a_replay_that_is_too_long_is_not_kept(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    go_on: asyncio.Event,
    standing: Answer,
) -> None:
    """Who comes again is then answered anew."""
    gateway = await start_gateway(worker, replay_bytes=1_000)
    worker.answers(replace(standing, until_after=30))
    first = start(ask(gateway))
    request = await worker.received()
    await eventually(lambda: request.events_sent > 20, SECONDS, "more than is kept")
    coming_again = start(ask(gateway, headers=RETRY))
    await worker.received(2)
    go_on.set()
    again = await coming_again
    assert "x-gateway-attached-to" not in again.headers
    assert again.message == (await first).message
    assert len(worker.requests) == 2
    assert running(gateway).held_bytes == 0


async def test_an_idempotency_key_of_any_length_is_refused(gateway: RunningGateway) -> None:
    refused = await ask(gateway, headers={"idempotency-key": "k" * 256})
    assert (refused.status, refused.error["param"]) == (400, "idempotency-key")
