"""The official SDK, pointed at the gateway."""

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from app.settings import MODEL_ID
from tests.support.answers import Answer, Break, End, ToolCall, vllm_error
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

THOUGHT = ("A secret ", "thought.")


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with gateway.sdk() as client:
        yield client


async def test_it_chats(client: AsyncOpenAI, worker: ScriptedWorker) -> None:
    worker.answers(Answer(["Hello", " there."], reasoning=THOUGHT))
    answer = await client.chat.completions.create(
        model="qwythos", messages=[{"role": "user", "content": "Hi"}]
    )
    message = answer.choices[0].message
    assert (message.role, message.content, message.refusal) == ("assistant", "Hello there.", None)
    assert not message.model_extra
    assert answer.choices[0].finish_reason == "stop"
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2


async def test_it_streams(client: AsyncOpenAI, worker: ScriptedWorker) -> None:
    worker.answers(Answer(["Hello", " there."], reasoning=THOUGHT))
    async with client.chat.completions.stream(
        model=MODEL_ID,
        messages=[{"role": "user", "content": "Hi"}],
        stream_options={"include_usage": True},
    ) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        completion = await stream.get_final_completion()
    message = completion.choices[0].message
    assert "".join(deltas) == "Hello there."
    # The accumulator concatenates what comes twice.
    assert (message.role, message.content) == ("assistant", "Hello there.")
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 4


async def test_it_streams_through_a_long_silence(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker,
        commit_after_seconds=0.05,
        keep_alive_comment_seconds=0.05,
        empty_delta_seconds=0.1,
    )
    worker.answers(Answer(["Hello", " there."], prefill_seconds=0.4))
    async with (
        gateway.sdk() as client,
        client.chat.completions.stream(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}]
        ) as stream,
    ):
        message = (await stream.get_final_completion()).choices[0].message
    assert (message.role, message.content) == ("assistant", "Hello there.")


async def test_it_accumulates_tool_calls(client: AsyncOpenAI, worker: ScriptedWorker) -> None:
    call = ToolCall("get_weather", ['{"ci', 'ty": "Oslo"}'], id="call_7")
    worker.answers(Answer([], reasoning=THOUGHT, tool_calls=[call], finish="tool_calls"))
    async with client.chat.completions.stream(
        model="qwythos",
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[{"type": "function", "function": {"name": "get_weather"}}],
    ) as stream:
        choice = (await stream.get_final_completion()).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (made,) = choice.message.tool_calls
    assert made.id == "call_7"
    assert (made.function.name, made.function.arguments) == ("get_weather", '{"city": "Oslo"}')


class City(BaseModel):
    name: str


async def test_it_parses_structured_answers(client: AsyncOpenAI, worker: ScriptedWorker) -> None:
    worker.answers(Answer(['{"name": ', '"Oslo"}'], reasoning=THOUGHT))
    answer = await client.chat.completions.parse(
        model="qwythos",
        messages=[{"role": "user", "content": "A city?"}],
        response_format=City,
    )
    assert answer.choices[0].message.parsed == City(name="Oslo")
    assert worker.only.json["response_format"]["type"] == "json_schema"


async def test_it_lists_models(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL_ID, "qwythos"]
    assert (await client.models.retrieve(MODEL_ID)).id == MODEL_ID


async def test_it_knows_a_bad_key(gateway: RunningGateway) -> None:
    async with gateway.sdk(key="sk-qw-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id is not None


async def test_it_knows_an_unknown_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
        )
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_it_knows_a_bad_request(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}], temperature=9
        )
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")


async def test_it_knows_a_context_that_is_too_long(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}], max_tokens=40_000
        )
    assert caught.value.code == "context_length_exceeded"
    assert "context_length_exceeded" in caught.value.message


async def test_it_knows_an_overloaded_server(client: AsyncOpenAI, worker: ScriptedWorker) -> None:
    worker.answers(vllm_error(503, "full"))
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}]
        )
    assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")


async def test_it_tries_again_when_it_is_told_to(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(vllm_error(500, "no"), Answer(["Hello"]))
    async with gateway.sdk(max_retries=1) as client:
        answer = await client.chat.completions.create(
            model="qwythos", messages=[{"role": "user", "content": "Hi"}]
        )
    assert answer.choices[0].message.content == "Hello"


@pytest.mark.parametrize("how", [End.RESET, End.CLOSE, End.ERROR])
async def test_it_raises_when_a_stream_breaks(
    how: End, client: AsyncOpenAI, worker: ScriptedWorker
) -> None:
    """A quiet end would look to it like a success."""
    worker.answers(Answer(["Hello ", "there."], breaks=Break(how, 3), pace_seconds=0.02))
    stream = await client.chat.completions.create(
        model="qwythos", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    text = ""
    with pytest.raises(openai.APIError) as caught:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == "Hello "
    assert caught.value.code == "upstream_error"


async def test_leaving_a_stream_stops_the_worker(
    client: AsyncOpenAI, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["word "] * 1_000, pace_seconds=0.02))
    stream = await client.chat.completions.create(
        model="qwythos", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async with stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    await worker.closed(await worker.received(), within=1.0)
