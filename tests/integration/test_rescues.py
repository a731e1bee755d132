"""Answers that come to nothing: asked for again, gone on with, or a clear error."""

import json

import pytest

from app.settings import Engine, Separation
from tests.support.answers import Answer, Break, End, RawStream, Reply, ToolCall, vllm_error
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

THOUGHT = ("I think it is ", "four.")
EMPTY = Answer([], reasoning=THOUGHT)
HELLO = Answer(["Hello"], reasoning=THOUGHT)
USED_UP = Answer([], reasoning=THOUGHT, finish="length")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
BROKEN = Answer([], THOUGHT, [ToolCall("get_weather", ['{"city": '])], "tool_calls")
WRONG = Answer([], THOUGHT, [ToolCall("get_weather", ['{"town": "Oslo"}'])], "tool_calls")
RIGHT = Answer([], THOUGHT, [ToolCall("get_weather", ['{"city": "Oslo"}'])], "tool_calls")

both = pytest.mark.parametrize("stream", [True, False])


# -- asked for again


@both
async def test_an_empty_answer_is_asked_for_again_with_another_seed(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(EMPTY, HELLO)
    response = await gateway.chat(stream=stream, seed=41)
    text = response.stream.text() if stream else response.message["content"]
    assert text == "Hello"
    assert [request.json["seed"] for request in worker.requests] == [41, 42]
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.attempts, row.findings) == ("completed", 2, {"rescues": ["retry"]})
    assert row.completion_tokens == 2 + 3  # what both tries cost
    metrics = (await gateway.request("GET", "/metrics")).body.decode()
    assert 'gateway_answers_rescued_total{kind="retry",outcome="answered"} 1.0' in metrics


@both
async def test_an_answer_that_stays_empty_is_a_clear_error(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(EMPTY)
    response = await gateway.chat(stream=stream)
    error = response.stream.error if stream else response.error
    assert error is not None
    assert (error["type"], error["code"]) == ("server_error", "empty_answer")
    assert len(worker.requests) == 2
    assert (await gateway.audited(response.request_id)).outcome == "failed"


@both
@pytest.mark.parametrize("call", [BROKEN, WRONG], ids=["not JSON", "not its schema"])
async def test_a_broken_call_is_asked_for_again(
    call: Answer, stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(call, RIGHT)
    response = await gateway.chat(stream=stream, tools=TOOLS)
    if stream:
        (got,) = response.stream.tool_calls
    else:
        got = response.message["tool_calls"][0]["function"]
    assert (got["name"], got["arguments"]) == ("get_weather", '{"city": "Oslo"}')
    row = await gateway.audited(response.request_id)
    assert row.findings["rescues"] == ["retry"]
    assert [call["name"] for call in row.findings["refused_calls"]] == ["get_weather"]


async def test_a_call_that_stays_broken_never_reaches_the_client(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(WRONG)
    response = await gateway.chat(tools=TOOLS)
    assert (response.status, response.error["code"]) == (502, "invalid_tool_call")
    assert len(worker.requests) == 2


async def test_a_broken_call_behind_text_that_was_shown_is_an_error_at_once(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Let me see."], THOUGHT, WRONG.tool_calls, "tool_calls"))
    stream = await gateway.stream(tools=TOOLS)
    assert stream.text() == "Let me see."
    assert stream.tool_calls == []
    assert stream.error is not None
    assert stream.error["code"] == "invalid_tool_call"
    assert len(worker.requests) == 1


async def test_a_call_that_was_demanded_and_did_not_come_is_an_error(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(HELLO)
    response = await gateway.chat(tools=TOOLS, tool_choice="required")
    assert (response.status, response.error["code"]) == (502, "tool_call_missing")


async def test_a_call_cut_by_length_is_no_call(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer([], THOUGHT, BROKEN.tool_calls, "length"))
    response = await gateway.chat(tools=TOOLS)
    assert response.json["choices"][0]["finish_reason"] == "length"
    assert "tool_calls" not in response.message
    row = await gateway.audited(response.request_id)
    assert row.findings["refused_calls"] == [{"name": "get_weather", "reason": "cut"}]


async def test_an_answer_that_a_stop_sequence_emptied_is_one(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(HELLO)
    response = await gateway.chat(stop="Hello")
    assert response.message["content"] == ""
    assert response.json["choices"][0]["finish_reason"] == "stop"


async def test_one_of_several_choices_is_not_asked_for_again(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(EMPTY)
    response = await gateway.chat(n=2)
    assert (response.status, response.error["code"]) == (502, "empty_answer")
    assert len(worker.requests) == 1


# -- gone on with


@both
async def test_a_thought_that_used_up_the_answer_is_closed_and_gone_on_with(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(salvage_tokens=64)
    worker.answers(USED_UP, Answer(["\n\nFour", "."], reasoning=()))
    options = {"include_usage": True} if stream else None
    response = await gateway.chat(
        key=key, stream=stream, max_tokens=2, stream_options=options, reasoning_effort="low"
    )
    text = response.stream.text() if stream else response.message["content"]
    assert text == "Four."
    assert b"I think" not in response.body
    first, second = (request.json for request in worker.requests)
    assert first["thinking_token_budget"] == 1_024
    assert "thinking_token_budget" not in second
    assert second["messages"][:-1] == first["messages"]
    thought = "".join(THOUGHT)
    assert second["messages"][-1] == {
        "role": "assistant",
        "content": "",
        "reasoning": thought,
        "reasoning_content": thought,
    }
    assert second["continue_final_message"] is True
    assert second["add_generation_prompt"] is False
    assert second["max_tokens"] == 64
    usage = response.stream.usage if stream else response.json["usage"]
    assert usage is not None
    assert usage["completion_tokens"] == 4
    row = await gateway.audited(response.request_id)
    assert (row.finish_reason, row.findings) == ("stop", {"rescues": ["salvage"]})


async def test_it_stays_empty_without_the_keys_leave(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(USED_UP)
    response = await gateway.chat(max_tokens=2)
    assert (response.message["content"], len(worker.requests)) == ("", 1)
    assert response.json["choices"][0]["finish_reason"] == "length"


async def test_a_continuation_happens_once(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    key = await gateway.issue_key(salvage_tokens=64)
    worker.answers(USED_UP, Answer([], reasoning=(), finish="length"))
    response = await gateway.chat(key=key)
    assert (response.status, response.message["content"]) == (200, "")
    assert len(worker.requests) == 2


async def test_an_engine_that_cannot_go_on_is_not_asked_to(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(Engine.LLAMACPP, separation=Separation.INLINE) as worker:
        gateway = await start_gateway(worker)
        key = await gateway.issue_key(salvage_tokens=64)
        worker.answers(Answer([], THOUGHT, finish="length", inline=True))
        response = await gateway.chat(key=key)
        assert (response.message["content"], len(worker.requests)) == ("", 1)


@pytest.mark.parametrize(
    "failure", [vllm_error(503, "queue overflow"), Answer(breaks=Break(End.RESET))]
)
async def test_the_cut_answer_stands_where_it_cannot_be_gone_on_with(
    failure: Reply, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(salvage_tokens=64)
    worker.answers(USED_UP, failure)
    response = await gateway.chat(key=key)
    assert (response.status, response.message["content"]) == (200, "")
    assert response.json["choices"][0]["finish_reason"] == "length"
    assert response.json["usage"]["completion_tokens"] >= 2
    assert (await gateway.audited(response.request_id)).outcome == "completed"


async def test_what_the_first_try_cost_is_counted_though_the_second_was_refused(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(EMPTY, vllm_error(503, "queue overflow"))
    response = await gateway.chat()
    assert response.status == 503
    assert (await gateway.audited(response.request_id)).completion_tokens == 2


async def test_choices_that_answered_stand_beside_an_empty_one(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"reasoning": "Hm."}}]},
        {"choices": [{"index": 1, "delta": {"reasoning": "Hm."}}]},
        {"choices": [{"index": 1, "delta": {"content": "Hello"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
    ]
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    worker.answers(RawStream(body + b"data: [DONE]\n\n"))
    response = await gateway.chat(n=2)
    assert [c["message"]["content"] for c in response.json["choices"]] == ["", "Hello"]


async def test_a_reservation_covers_what_may_be_added(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(salvage_tokens=5_000, tokens_per_minute=4_000)
    response = await gateway.chat(key=key, max_tokens=100)
    assert response.status == 429
    assert worker.requests == []


# -- cut off


@both
async def test_a_loop_in_the_thought_stops_the_worker(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer([], reasoning=["Wait, let me check. "] * 10_000, pace_seconds=0.0005))
    response = await gateway.chat(stream=stream)
    if stream:
        assert response.stream.finish_reasons == ["length"]
        assert response.stream.error is None
    else:
        assert response.json["choices"][0]["finish_reason"] == "length"
    await worker.closed(worker.only, within=2.0)
    assert worker.only.events_sent < 1_000
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.finish_reason) == ("completed", "length")
    assert row.findings == {"stopped": "loop_in_thought"}
    metrics = (await gateway.request("GET", "/metrics")).body.decode()
    assert 'gateway_answers_stopped_total{reason="loop_in_thought"} 1.0' in metrics


async def test_a_loop_in_the_answer_ends_it_as_length(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["One wave comes and one goes. "] * 10_000))
    response = await gateway.chat()
    assert response.json["choices"][0]["finish_reason"] == "length"
    assert 8_000 < len(response.message["content"]) < 50_000
    assert (await gateway.audited(response.request_id)).findings == {"stopped": "loop_in_answer"}


async def test_a_thought_over_its_quota_is_cut_off_where_the_worker_keeps_none(
    start_gateway: StartGateway,
) -> None:
    async with ScriptedWorker(Engine.SGLANG) as worker:
        gateway = await start_gateway(worker)
        key = await gateway.issue_key(max_thinking_tokens=20)
        thought = [f"Number {number}. " for number in range(10_000)]
        worker.answers(Answer(["Hello"], reasoning=thought))
        response = await gateway.chat(key=key)
        assert response.json["choices"][0]["finish_reason"] == "length"
        row = await gateway.audited(response.request_id)
        assert row.findings == {"stopped": "thinking_quota"}
        assert "thinking_token_budget" not in worker.only.json
