"""The engines' own ways of streaming, and of being asked."""

import json
from typing import Any

import pytest

from app.settings import Engine
from tests.support.answers import Answer, Break, End, Framing, Refusal, ToolCall
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

THOUGHT = ("First I ", "think.")
engines = pytest.mark.parametrize("engine", [Engine.VLLM, Engine.SGLANG, Engine.TRANSFORMERS])
# `transformers serve` never says `[DONE]`; the others may forget it after a crash.
UNENDED = Framing(done=False)


@engines
@pytest.mark.parametrize("stream", [True, False])
async def test_every_engines_answer_looks_the_same(
    engine: Engine, stream: bool, start_gateway: StartGateway
) -> None:
    async with ScriptedWorker(engine) as worker:
        gateway = await start_gateway(worker)
        framing = UNENDED if engine is Engine.TRANSFORMERS else Framing()
        worker.answers(Answer(["Hel", "lo"], reasoning=THOUGHT, framing=framing))
        if stream:
            streamed = await gateway.stream(stream_options={"include_usage": True})
            text, usage = streamed.text(), streamed.usage
            assert streamed.finish_reasons == ["stop"]
        else:
            response = await gateway.chat()
            text, usage = response.message["content"], response.json["usage"]
        assert text == "Hello"
        assert usage is not None
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 4)
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 2}


@engines
async def test_every_engines_tool_calls_look_the_same(
    engine: Engine, start_gateway: StartGateway
) -> None:
    call = ToolCall("get_weather", ['{"city":', ' "Oslo"}'])
    tool = {"type": "function", "function": {"name": "get_weather"}}
    async with ScriptedWorker(engine) as worker:
        gateway = await start_gateway(worker)
        worker.answers(Answer([], tool_calls=[call], finish="tool_calls"))
        expected = {"id": call.id, "name": "get_weather", "arguments": '{"city": "Oslo"}'}
        assert (await gateway.stream(tools=[tool])).tool_calls == [expected]
        (folded,) = (await gateway.chat(tools=[tool])).message["tool_calls"]
        assert {"id": folded["id"], **folded["function"]} == expected


@engines
async def test_every_engines_error_in_mid_stream_is_ours(
    engine: Engine, start_gateway: StartGateway
) -> None:
    async with ScriptedWorker(engine) as worker:
        gateway = await start_gateway(worker)
        worker.answers(Answer(breaks=Break(End.ERROR, 2), pace_seconds=0.02))
        response = await gateway.chat(stream=True)
        assert response.stream.error is not None
        assert response.stream.error["code"] == "upstream_error"
        assert b"CUDA" not in response.body


async def test_transformers_is_not_asked_for_what_it_refuses(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.TRANSFORMERS) as worker:
        gateway = await start_gateway(worker)
        fields: dict[str, Any] = {
            "top_k": 5,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
            "temperature": 0.7,
        }
        assert (await gateway.chat(**fields, max_completion_tokens=50)).status == 200
        sent = worker.only.json
        assert (sent["temperature"], sent["max_tokens"]) == (0.7, 50)
        assert sent["stream"] is True
        for name in ("top_k", "min_p", "repetition_penalty", "cache_salt", "stream_options"):
            assert name not in sent


async def test_a_worker_that_lists_no_model_is_asked_by_the_name_in_the_settings(
    start_gateway: StartGateway,
) -> None:
    async with ScriptedWorker(Engine.TRANSFORMERS) as worker:
        worker.lists_model = False
        named = worker.settings() | {"model": "/models/qwythos"}
        gateway = await start_gateway(workers=[named])
        assert (await gateway.chat()).status == 200
        assert worker.only.json["model"] == "/models/qwythos"


async def test_an_engine_with_one_choice_refuses_more(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.TRANSFORMERS) as worker:
        gateway = await start_gateway(worker)
        response = await gateway.chat(n=2)
        assert (response.status, response.error["param"]) == (400, "n")
        assert response.error["code"] == "unsupported_parameter"
        assert worker.requests == []


ERRORS = {
    "SGLang": {"object": "error", "message": "SECRET", "type": "BadRequest", "code": 400},
    "Transformers": {"detail": [{"msg": "SECRET"}]},
    "a text": {"error": "SECRET"},
}


@pytest.mark.parametrize("name", ERRORS)
async def test_every_engines_refusal_is_ours(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Refusal(400, json.dumps(ERRORS[name]).encode()))
    response = await gateway.chat()
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert b"SECRET" not in response.body
