"""Prompt and answer have to fit the context: vLLM would cut the answer and say nothing."""

from collections.abc import AsyncIterator

import pytest

from tests.support.answers import vllm_error
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

CONTEXT_TOKENS = 2_000
# As many tokens as the worker will count: only a prompt of so many bytes is counted at all.
PROMPT = [{"role": "user", "content": "word " * 1_500}]


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker(max_model_len=CONTEXT_TOKENS) as worker:
        worker.prompt_tokens = 1_500
        yield worker


async def test_an_explicit_max_tokens_beyond_the_context_is_refused(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await gateway.chat(messages=PROMPT, max_tokens=501)
    assert response.status == 400
    error = response.error
    assert error["code"] == "context_length_exceeded"
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "messages"
    # LangChain reads only the text, others look for one or the other phrase in it.
    assert "context_length_exceeded" in error["message"]
    assert "maximum context length is 2000 tokens" in error["message"]
    assert worker.requests == []


async def test_an_explicit_max_tokens_that_just_fits_is_kept(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await gateway.chat(messages=PROMPT, max_tokens=500)).status == 200
    assert worker.only.json["max_tokens"] == 500


async def test_a_default_max_tokens_is_fitted_to_what_is_left(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await gateway.chat(messages=PROMPT)).status == 200
    assert worker.only.json["max_tokens"] == 500


async def test_a_prompt_that_fills_the_context_is_refused(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.prompt_tokens = CONTEXT_TOKENS
    response = await gateway.chat(messages=PROMPT)
    assert (response.status, response.error["code"]) == (400, "context_length_exceeded")
    assert worker.requests == []


async def test_a_keys_own_cap_clamps(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    key = await gateway.issue_key(max_output_tokens=20)
    for asked in (None, 10_000, 5):
        response = await gateway.chat(key=key, messages=PROMPT, max_tokens=asked)
        assert response.status == 200
    assert [request.json["max_tokens"] for request in worker.requests] == [20, 20, 5]


async def test_a_workers_own_refusal_of_the_length_is_told_in_our_words(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    text = "This model's maximum context length is 2000 tokens. Your prompt: SECRET"
    worker.answers(vllm_error(400, text))
    response = await gateway.chat(max_tokens=1)
    assert (response.status, response.error["code"]) == (400, "context_length_exceeded")
    assert "context_length_exceeded" in response.error["message"]
    assert "SECRET" not in response.error["message"]


async def test_the_worker_with_room_for_the_prompt_is_asked(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(max_model_len=2_000) as small, ScriptedWorker() as large:
        small.prompt_tokens = large.prompt_tokens = 30_000
        gateway = await start_gateway(small, large)
        for _ in range(4):
            text = "word " * 30_000
            response = await gateway.chat(
                messages=[{"role": "user", "content": text}], max_tokens=100
            )
            assert response.status == 200
        assert (len(small.requests), len(large.requests)) == (0, 4)
