"""Turns of one conversation go to one worker, through whichever replica of the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, Json, RunningGateway, StartGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

WORKERS = 4
TURNS = 6
PROMPT_TOKENS = 10_000
LONGEST_TOKENS = 375_000
BILLING = "x-anthropic-billing-header: cc_version=2.1.177; cc_entrypoint=cli; cch={:05x};"


@pytest.fixture
async def workers() -> AsyncIterator[list[ScriptedWorker]]:
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(ScriptedWorker(max_model_len=1_010_000))
            for _ in range(WORKERS)
        ]
        for worker in workers:
            worker.answers(Answer(prompt_tokens=PROMPT_TOKENS, cached_tokens=PROMPT_TOKENS - 100))
        yield workers


def turns(first: str, *, system: str = "Be kind.") -> list[list[Json]]:
    """The messages of each request of a conversation."""
    messages: list[Json] = [{"role": "user", "content": first}]
    requests: list[list[Json]] = []
    for turn in range(TURNS):
        nonce = BILLING.format(turn)
        requests.append([{"role": "system", "content": f"{nonce}\n{system}"}, *messages])
        messages.append({"role": "assistant", "content": "Hello there."})
        messages.append({"role": "user", "content": f"Go on, {turn}."})
    return requests


async def ask(gateway: RunningGateway, key: str, messages: list[Json], **fields: object) -> None:
    headers = fields.pop("headers", {})
    assert isinstance(headers, dict)
    body = chat_body(messages=messages, **fields)
    response = await gateway.request("POST", CHAT, body=body, key=key, headers=headers)
    assert response.status == 200


def longest() -> list[Json]:
    """A prompt of about LONGEST_TOKENS that nobody has read."""
    return [{"role": "user", "content": uuid4().hex + " word" * 300_000}]


def asked(workers: list[ScriptedWorker]) -> list[int]:
    """How many requests each got, the most first."""
    return sorted((len(worker.requests) for worker in workers), reverse=True)


async def test_every_turn_of_a_long_conversation_finds_its_worker(
    start_gateway: StartGateway, workers: list[ScriptedWorker]
) -> None:
    gateway = await start_gateway(*workers)
    for messages in turns("word " * 8_000):
        await ask(gateway, gateway.key, messages)
    assert asked(workers) == [TURNS, 0, 0, 0]
    shown = (await gateway.request("GET", "/metrics")).body.decode().splitlines()
    assert 'gateway_affinity_lookups_total{result="none"} 1.0' in shown
    assert f'gateway_affinity_lookups_total{{result="hit"}} {TURNS - 1}.0' in shown
    assert f'gateway_placements_total{{reason="affinity"}} {TURNS - 1}.0' in shown


async def test_replicas_agree_on_the_worker_without_talking(
    start_gateway: StartGateway, workers: list[ScriptedWorker]
) -> None:
    replicas = [await start_gateway(*workers), await start_gateway(*reversed(workers))]
    for first in ("Find the defect.", "word " * 8_000):
        before = [len(worker.requests) for worker in workers]
        for turn, messages in enumerate(turns(first)):
            await ask(replicas[turn % 2], replicas[0].key, messages)
        counts = [len(each.requests) - old for each, old in zip(workers, before, strict=True)]
        assert sorted(counts) == [0, 0, 0, TURNS]


async def test_replicas_do_not_give_one_worker_all_of_the_longest_prompts(
    workers: list[ScriptedWorker], start_gateway: StartGateway
) -> None:
    pair, is_read = workers[:2], asyncio.Event()
    for worker in pair:
        worker.kv_usage = 0.0
        worker.prompt_tokens = LONGEST_TOKENS
        worker.answers(Answer(until=is_read, prompt_tokens=LONGEST_TOKENS))
    one, other = [await start_gateway(*pair, probe_seconds=0.1) for _ in range(2)]
    reading = [asyncio.create_task(ask(one, one.key, longest(), max_tokens=10))]
    await eventually(lambda: asked(pair) == [1, 0], 30.0, "the first one is being read")
    endpoints = other.app.state.gateway.workers.pool.endpoints
    await eventually(
        lambda: any(each.load.others_streams for each in endpoints), 30.0, "its worker has said so"
    )
    reading.append(asyncio.create_task(ask(other, one.key, longest(), max_tokens=10)))
    await eventually(lambda: sum(asked(pair)) == 2, 30.0, "the second one is being read")
    assert asked(pair) == [1, 1]
    is_read.set()
    await asyncio.gather(*reading)


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"x-gateway-affinity": "job 7"}, {}),
        ({"X-Claude-Code-Session-Id": "5f0c"}, {}),
        ({}, {"prompt_cache_key": "session 7"}),
    ],
)
async def test_a_hint_keeps_together_what_begins_differently(
    headers: dict[str, str],
    fields: dict[str, str],
    start_gateway: StartGateway,
    workers: list[ScriptedWorker],
) -> None:
    gateway = await start_gateway(*workers)
    for number in range(8):
        await ask(
            gateway,
            gateway.key,
            [{"role": "user", "content": f"Question {number}"}],
            headers=headers,
            **fields,
        )
    assert asked(workers) == [8, 0, 0, 0]


async def test_conversations_are_spread(
    start_gateway: StartGateway, workers: list[ScriptedWorker]
) -> None:
    gateway = await start_gateway(*workers)
    for number in range(60):
        await ask(gateway, gateway.key, [{"role": "user", "content": f"Question {number}"}])
    assert all(worker.requests for worker in workers)


async def test_an_agents_nonce_reaches_no_worker(
    start_gateway: StartGateway, workers: list[ScriptedWorker]
) -> None:
    gateway = await start_gateway(workers[0])
    for messages in turns("Find the defect."):
        await ask(gateway, gateway.key, messages)
    for request in workers[0].requests:
        assert request.json["messages"][0] == {"role": "system", "content": "Be kind."}
