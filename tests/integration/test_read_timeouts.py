"""An answer that is not streamed comes while its client waits for it, or a clear end does."""

import asyncio

import pytest
from openai import InternalServerError

from tests.support.answers import Answer
from tests.support.coming_again import RETRY, ask, joined, start
from tests.support.gateway import CHAT, Response, RunningGateway, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker

CLOSE_SECONDS = 1.0
ALL_IS_DEAR = {"leave_min_prefill_seconds": 0}
NAMES = ("x-stainless-read-timeout", "x-stainless-timeout")


def assert_timed_out(response: Response, *, retry: bool) -> None:
    assert (response.status, response.error["code"]) == (504, "gateway_timeout")
    assert response.error["type"] == "timeout"
    assert "'stream': true" in response.error["message"]
    assert response.headers["x-should-retry"] == str(retry).lower()


@pytest.mark.parametrize("name", NAMES)
async def test_an_answer_that_takes_too_long_is_given_up_in_time(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=60))
    response = await ask(gateway, headers={name: "0.5"})
    assert_timed_out(response, retry=False)
    request = await worker.received()
    await worker.closed(request, within=CLOSE_SECONDS)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("cancelled", 504, "gateway_timeout")
    assert row.charged_tokens is not None or row.prompt_tokens


async def test_an_answer_within_the_time_is_an_answer(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=0.1))
    response = await ask(gateway, headers={"x-stainless-read-timeout": "600.0"})
    assert response.message["content"] == "Hello there."


@pytest.mark.parametrize("timeout", ["0", "", "None", "-1", "soon", "1e-3", "nan", "inf", "0,5"])
async def test_what_is_no_time_bounds_nothing(
    timeout: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=0.1))
    assert (await ask(gateway, headers={"x-stainless-read-timeout": timeout})).status == 200


async def test_a_stream_is_kept_alive_instead(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prefill_seconds=1.0))
    response = await ask(gateway, stream=True, headers={"x-stainless-read-timeout": "0.5"})
    assert response.stream.text() == "Hello there."


async def test_what_cannot_be_read_in_time_is_refused_at_once(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """As soon as the worker has shown how fast it reads."""
    worker.max_model_len = 1_010_000
    gateway = await start_gateway(worker)
    words = [{"role": "user", "content": "word " * 8_000}]
    worker.answers(Answer(prefill_seconds=0.5, prompt_tokens=8_000))
    assert (await gateway.chat(messages=words)).status == 200
    longer = [{"role": "user", "content": "other " * 20_000}]
    refused = await ask(gateway, messages=longer, headers={"x-stainless-read-timeout": "0.6"})
    assert_timed_out(refused, retry=False)
    assert "Reading this prompt takes about" in refused.error["message"]
    assert len(worker.requests) == 1
    row = await gateway.audited(refused.request_id)
    assert (row.outcome, row.attempts) == ("refused", 0)


async def test_who_reads_along_may_time_out_and_come_back(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    is_read = asyncio.Event()
    worker.answers(Answer(["Hello", " again."], until=is_read))
    first = start(ask(gateway))
    await worker.received()
    timed_out = await ask(gateway, headers=RETRY | {"x-stainless-read-timeout": "0.2"})
    assert_timed_out(timed_out, retry=True)
    again = start(ask(gateway, headers={"x-stainless-retry-count": "2"}))
    await joined(gateway)
    is_read.set()
    assert (await again).message == (await first).message
    assert len(worker.requests) == 1
    row = await gateway.audited(timed_out.request_id)
    assert (row.outcome, row.status) == ("cancelled", 504)


async def test_a_dear_prefill_goes_on_and_the_sdks_next_try_gets_its_answer(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """On the same connection: the answer to the first try has left, and its work goes on."""
    gateway = await start_gateway(worker, **ALL_IS_DEAR)
    key = await gateway.issue_key(finish_after_leaving_seconds=60)
    is_read = asyncio.Event()
    worker.answers(Answer(["Hello", " again."], until=is_read))
    async with gateway.raw() as client:
        timeout = "x-stainless-read-timeout: 0.3"
        await client.send(request_bytes(CHAT, key, chat_body(), timeout))
        head = await client.head()
        assert (head.status, head.headers["x-should-retry"]) == (504, "true")
        assert "sent again" in (await client.body(head))["error"]["message"]
        retry = "x-stainless-retry-count: 1"
        await client.send(request_bytes(CHAT, key, chat_body(), retry))
        await joined(gateway)
        is_read.set()
        again = await client.head()
        assert again.headers["x-gateway-attached-to"] == head.headers["x-request-id"]
        message = (await client.body(again))["choices"][0]["message"]
    assert message["content"] == "Hello again."
    assert len(worker.requests) == 1
    row = await gateway.audited(head.headers["x-request-id"])
    assert (row.outcome, row.status, row.findings) == ("cancelled", 504, {"went_on": True})


async def test_it_goes_on_for_who_reads_along(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    is_read = asyncio.Event()
    worker.answers(Answer(["Hello", " again."], until=is_read))
    first = start(ask(gateway, headers={"x-stainless-read-timeout": "2.0"}))
    await worker.received()
    again = start(ask(gateway, headers=RETRY))
    await joined(gateway)
    assert_timed_out(await first, retry=True)
    is_read.set()
    assert (await again).message["content"] == "Hello again."


async def test_the_python_sdk_is_answered_before_it_gives_up(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:

    worker.answers(Answer(prefill_seconds=60))
    async with gateway.sdk(max_retries=2) as client:
        with pytest.raises(InternalServerError) as caught:
            # A tenth before that it is answered: so much may the machine stand still.
            await client.with_options(timeout=8.0).chat.completions.create(
                model="qwythos",
                messages=[{"role": "user", "content": "Hello!"}],
            )
    assert caught.value.status_code == 504
    assert caught.value.code == "gateway_timeout"
    assert len(worker.requests) == 1  # and did not ask again
