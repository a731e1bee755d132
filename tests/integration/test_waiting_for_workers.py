"""Requests that wait for a worker: what is long does not hold up what is short, and whoever waits
no longer is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from tests.support.answers import Answer, Break, End, Refusal
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import CHAT, RunningGateway, StartGateway
from tests.support.raw_client import RawClient
from tests.support.scripted_worker import ScriptedWorker

LONG_TOKENS = 1_000
# Some 4,000 tokens; unlike each other from their first word on, so that none is in a cache.
LONG = ["".join(f"{word} {number} " for number in range(1_000)) for word in ("one", "other")]
READING = Answer(prefill_seconds=60)
BREAKS = Answer(breaks=Break(End.RESET, after=0))
SECONDS = 20.0  # for what has to come; only spent on failure


def asked(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "qwythos", "messages": messages, "max_tokens": 50, **fields}


@asynccontextmanager
async def asking(gateway: RunningGateway, text: str, **fields: Any) -> AsyncIterator[RawClient]:
    async with gateway.raw() as client:
        await client.post(CHAT, gateway.key, asked(text, **fields))
        yield client


async def queued(gateway: RunningGateway, count: int, priority: str = "interactive") -> None:
    """Returns once so many wait."""
    series = f'gateway_queued_requests{{priority="{priority}"}} {float(count)}'

    async def find() -> bool | None:
        text = (await gateway.request("GET", "/metrics")).body.decode()
        return True if series in text else None

    await eventually_found(find, SECONDS, f"{count} requests in the queue")


def asked_in_all(*workers: ScriptedWorker) -> int:
    return sum(len(worker.requests) for worker in workers)


async def test_short_prompts_go_where_no_long_one_is_read(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    second_worker.takes_turns_with(worker)
    worker.answers(READING, Answer())
    gateway = await start_gateway(worker, second_worker, long_prefill_tokens=LONG_TOKENS)
    async with asking(gateway, LONG[0]):
        await eventually(lambda: asked_in_all(worker, second_worker) == 1, SECONDS, "it is read")
        busy, free = worker, second_worker
        if second_worker.requests:
            busy, free = second_worker, worker
        for number in range(6):
            assert (await gateway.chat(messages=asked(f"{number}?")["messages"])).status == 200
        assert (len(busy.requests), len(free.requests)) == (1, 6)


async def test_a_second_long_prompt_waits_for_the_first_and_short_ones_do_not(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(READING, Answer(["short"]), Answer(["long"]))
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS)
    async with asking(gateway, LONG[0]) as first:
        await worker.received()
        async with asking(gateway, LONG[1]) as second:
            await queued(gateway, 1)
            assert (await gateway.chat()).message["content"] == "short"
            assert len(worker.requests) == 2
            first.leave()
            head = await second.head()
            assert head.status == 200
            body = await second.body(head)
            assert body["choices"][0]["message"]["content"] == "long"
    await queued(gateway, 0)


async def test_the_first_token_lets_the_next_long_prompt_in(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["word "] * 1_000, pace_seconds=1.0), Answer(["long"]))
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS)
    async with asking(gateway, LONG[0], stream=True) as first:
        await first.head()
        response = await gateway.chat(messages=asked(LONG[1])["messages"], max_tokens=50)
        assert response.message["content"] == "long"
        assert worker.running == 1


async def test_a_client_that_leaves_while_it_waits_is_gone_from_the_queue(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(READING, Answer())
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS)
    async with asking(gateway, LONG[0]) as first:
        await worker.received()
        async with asking(gateway, LONG[1]) as second:
            await queued(gateway, 1)
            second.leave()
            await queued(gateway, 0)
        first.leave()
        await worker.closed(worker.requests[0], within=SECONDS)
    assert (await gateway.chat()).status == 200
    assert len(worker.requests) == 2


async def test_who_waits_when_the_drain_is_over_is_told_so(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(READING)
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS)
    async with asking(gateway, LONG[0]):
        await worker.received()
        async with asking(gateway, LONG[1]) as second:
            await queued(gateway, 1)
            gateway.drain.begin()
            gateway.drain.expire()
            head = await second.head()
            assert head.status == 503
            error = (await second.body(head))["error"]
            assert error["code"] == "server_shutting_down"
            row = await gateway.audited(head.headers["x-request-id"])
            assert (row.worker, row.prompt_tokens or 0) == (None, 0)
    assert len(worker.requests) == 1


async def test_who_waits_too_long_gets_a_503_with_a_time_to_come_back(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(READING)
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS, queue_seconds=0.1)
    async with asking(gateway, LONG[0]):
        await worker.received()
        response = await gateway.chat(messages=asked(LONG[1])["messages"], max_tokens=50)
    assert (response.status, response.error["code"]) == (503, "queue_timeout")
    assert int(response.headers["retry-after"]) >= 5
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.error_code, row.worker) == ("refused", "queue_timeout", None)


async def test_where_the_queue_is_full_it_is_said_at_once(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(READING)
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS, queue_requests=0)
    async with asking(gateway, LONG[0]):
        await worker.received()
        response = await gateway.chat(messages=asked(LONG[1])["messages"], max_tokens=50)
    assert (response.status, response.error["code"]) == (503, "queue_full")
    assert response.headers["retry-after"] == "60"


async def test_a_key_of_batch_waits_in_its_own_line(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.answers(READING)
    gateway = await start_gateway(worker, long_prefill_tokens=LONG_TOKENS)
    batch = await gateway.issue_key(priority="batch")
    async with asking(gateway, LONG[0]), gateway.raw() as client:
        await worker.received()
        await client.post(CHAT, batch, asked(LONG[1]))
        await queued(gateway, 1, "batch")
        await queued(gateway, 0, "interactive")


async def test_a_key_that_is_bound_to_tags_gets_only_workers_that_have_them(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    tagged = [worker.settings(), second_worker.settings() | {"tags": ["eu"]}]
    gateway = await start_gateway(workers=tagged)
    bound = await gateway.issue_key(worker_tags=["eu"])
    for number in range(4):
        messages = asked(f"{number}?")["messages"]
        assert (await gateway.chat(key=bound, messages=messages)).status == 200
    assert asked_in_all(worker) == 0
    nowhere = await gateway.issue_key(worker_tags=["us"])
    response = await gateway.chat(key=nowhere)
    assert (response.status, response.error["code"]) == (503, "no_available_workers")


class TestSecondTries:
    @pytest.fixture
    async def third_worker(self) -> AsyncIterator[ScriptedWorker]:
        async with ScriptedWorker() as third:
            yield third

    async def test_what_breaks_off_moves_once_and_what_never_reached_a_worker_moves_besides(
        self,
        start_gateway: StartGateway,
        worker: ScriptedWorker,
        second_worker: ScriptedWorker,
        third_worker: ScriptedWorker,
    ) -> None:
        second_worker.takes_turns_with(worker)
        # No probe tells that the third one is gone.
        gateway = await start_gateway(
            worker, second_worker, third_worker, probe_seconds=600, ejection_faults=1_000
        )
        await third_worker.go_away()

        async def tried_all() -> bool | None:
            worker.answers(BREAKS, Answer(["here"]))
            messages = asked(uuid4().hex)["messages"]  # each has its own order of workers
            response = await gateway.chat(messages=messages)
            assert response.message["content"] == "here"
            row = await gateway.audited(response.request_id)
            return True if row.attempts == 3 else None

        await eventually_found(tried_all, SECONDS, "a request that all three were tried for")

    async def test_what_breaks_workers_is_given_to_two_of_them(
        self,
        start_gateway: StartGateway,
        worker: ScriptedWorker,
        second_worker: ScriptedWorker,
        third_worker: ScriptedWorker,
    ) -> None:
        workers = (worker, second_worker, third_worker)
        for each in workers:
            each.answers(BREAKS)
        gateway = await start_gateway(*workers)
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (502, "upstream_error")
        assert asked_in_all(*workers) == 2

    @pytest.mark.parametrize("first", ["breaks", "fails"])
    async def test_what_breaks_one_and_fails_on_another_goes_no_further(
        self,
        first: str,
        start_gateway: StartGateway,
        worker: ScriptedWorker,
        second_worker: ScriptedWorker,
        third_worker: ScriptedWorker,
    ) -> None:
        for other in (second_worker, third_worker):
            other.takes_turns_with(worker)
        fails = Refusal(500, b"{}")
        both = (BREAKS, fails) if first == "breaks" else (fails, BREAKS)
        worker.answers(*both, Answer(["here"]))
        gateway = await start_gateway(worker, second_worker, third_worker)
        assert (await gateway.chat()).status == 502
        assert asked_in_all(worker, second_worker, third_worker) == 2

    async def test_what_a_worker_failed_at_is_tried_once_more(
        self,
        start_gateway: StartGateway,
        worker: ScriptedWorker,
        second_worker: ScriptedWorker,
        third_worker: ScriptedWorker,
    ) -> None:
        for other in (second_worker, third_worker):
            other.takes_turns_with(worker)
        worker.answers(Refusal(500, b"{}"))
        gateway = await start_gateway(worker, second_worker, third_worker)
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (502, "upstream_error")
        assert asked_in_all(worker, second_worker, third_worker) == 2

    async def test_where_all_fail_few_are_tried_again(
        self, start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
    ) -> None:
        worker.answers(Refusal(500, b"{}"))
        second_worker.takes_turns_with(worker)
        gateway = await start_gateway(worker, second_worker, ejection_faults=1_000, retry_share=0.0)
        responses = await asyncio.gather(*(gateway.chat() for _ in range(40)))
        assert {response.status for response in responses} == {502}
        text = (await gateway.request("GET", "/metrics")).body.decode()
        withheld = next(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("gateway_retries_withheld_total")
        )
        assert asked_in_all(worker, second_worker) == 80 - withheld
        assert withheld > 0
