"""What a client gets for an answer, streamed and folded."""

from typing import Any

import pytest

from tests.support.answers import Answer, ToolCall
from tests.support.gateway import RunningGateway
from tests.support.scripted_worker import ScriptedWorker

THOUGHT = ("The secret ", "thought ", "goes here.")
WEATHER = ToolCall("get_weather", ['{"ci', 'ty": "Os', 'lo"}'], id="call_1")
TIME = ToolCall("get_time", ["{}"], id="call_2")
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("get_weather", "get_time")
]
ANSWERS = {
    "text": Answer(["Hel", "lo ", "there."], reasoning=THOUGHT),
    "cut": Answer([], reasoning=THOUGHT, finish="length"),
    "calls": Answer([], reasoning=THOUGHT, tool_calls=[WEATHER, TIME], finish="tool_calls"),
    "text and a call": Answer(["Let me see."], tool_calls=[WEATHER], finish="tool_calls"),
    "no ASCII": Answer(["Gr\u00fc\u00df ", "\u2028\u0085\x0b ", "\U0001f600\r\n\n data: [DONE]"]),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_folded_answer_is_the_streamed_one(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(ANSWERS[name])
    stream = await gateway.stream(tools=TOOLS, stream_options={"include_usage": True})
    folded = (await gateway.chat(tools=TOOLS)).json
    (choice,) = folded["choices"]
    message = choice["message"]
    assert (message["content"] or "") == stream.text()
    assert [choice["finish_reason"]] == stream.finish_reasons
    assert [
        {"id": call["id"], **call["function"]} for call in message.get("tool_calls", ())
    ] == stream.tool_calls
    assert folded["usage"] == stream.usage


async def test_a_folded_answer_has_all_that_schemas_require(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hello"], reasoning=THOUGHT, prompt_tokens=11, cached_tokens=4))
    response = await gateway.chat()
    body = response.json
    assert response.headers["content-type"] == "application/json"
    assert body.pop("id").startswith("chatcmpl-")
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "qwythos",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 4,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }


async def test_chunks_share_their_envelope_and_begin_with_the_role(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(ANSWERS["text"])
    stream = await gateway.stream()
    envelopes = {(c["id"], c["object"], c["created"], c["model"]) for c in stream.chunks}
    ((_, kind, _, model),) = envelopes
    assert (kind, model) == ("chat.completion.chunk", "qwythos")
    assert stream.deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert stream.finish_reasons == ["stop"]
    assert stream.chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_the_role_comes_once_though_the_worker_says_it_twice(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(role_twice=True))
    assert (await gateway.stream()).roles == ["assistant"]


async def test_a_tool_call_has_its_id_and_its_name_once(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(ANSWERS["calls"])
    stream = await gateway.stream(tools=TOOLS)
    assert stream.tool_calls == [
        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
        {"id": "call_2", "name": "get_time", "arguments": "{}"},
    ]
    assert stream.finish_reasons == ["tool_calls"]


@pytest.mark.parametrize("asked", [True, False, None])
async def test_usage_is_streamed_only_where_it_was_asked_for(
    asked: bool | None, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hello"], reasoning=THOUGHT))
    options = None if asked is None else {"include_usage": asked}
    stream = await gateway.stream(stream_options=options)
    if asked:
        assert stream.chunks[-1]["choices"] == []
        assert stream.usage is not None
        assert stream.usage["completion_tokens"] == 4
        assert stream.usage["completion_tokens_details"] == {"reasoning_tokens": 3}
        assert all(chunk["usage"] is None for chunk in stream.chunks[:-1])
    else:
        assert all("usage" not in chunk for chunk in stream.chunks)
        assert all(chunk["choices"] for chunk in stream.chunks)


async def test_usage_that_a_worker_does_not_give_is_counted(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hel", "lo"], reasoning=THOUGHT, usage=False))
    response = await gateway.chat()
    usage = response.json["usage"]
    assert usage["completion_tokens"] == 5
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert usage["prompt_tokens"] > 0
    row = await gateway.audited(response.request_id)
    assert (row.completion_tokens, row.usage_exact) == (5, False)


async def test_choices_are_told_apart(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    worker.answers(Answer(["Hel", "lo"], reasoning=THOUGHT))
    folded = (await gateway.chat(n=2)).json
    assert [c["index"] for c in folded["choices"]] == [0, 1]
    assert [c["message"]["content"] for c in folded["choices"]] == ["Hello", "Hello"]
    stream = await gateway.stream(n=2)
    assert (stream.text(0), stream.text(1)) == ("Hello", "Hello")
    assert stream.roles == ["assistant", "assistant"]
    assert stream.finish_reasons == ["stop", "stop"]


STOPS = [(["Hel", "lo, wor", "ld and"], "o, w", "Hell"), (["a", "b", "c", "d"], "bc", "a")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("pieces", "stop", "shown"), STOPS)
async def test_a_stop_sequence_cuts_across_chunks(
    pieces: list[str],
    stop: str,
    shown: str,
    stream: bool,
    gateway: RunningGateway,
    worker: ScriptedWorker,
) -> None:
    worker.answers(Answer(pieces, reasoning=["thought with ", stop]))
    if stream:
        streamed = await gateway.stream(stop=[stop, "never"])
        assert (streamed.text(), streamed.finish_reasons) == (shown, ["stop"])
    else:
        folded = (await gateway.chat(stop=stop)).json["choices"][0]
        assert (folded["message"]["content"], folded["finish_reason"]) == (shown, "stop")
    assert "stop" not in worker.only.json


async def test_a_stop_sequence_stops_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hello", "STOP"] + ["more"] * 1000, pace_seconds=0.02))
    response = await gateway.chat(stop="STOP")
    assert response.message["content"] == "Hello"
    await worker.closed(worker.only, within=1.0)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.finish_reason) == ("completed", "stop")
    assert row.completion_tokens is not None
    assert row.completion_tokens > 0


FINISHES = {"stop": "stop", "length": "length", "repetition": "length", "something": "length"}


@pytest.mark.parametrize("reason", FINISHES)
async def test_finish_reasons_are_those_that_sdks_know(
    reason: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(finish=reason))
    assert (await gateway.stream()).finish_reasons == [FINISHES[reason]]


async def test_the_older_completions_route_answers_in_its_own_shape(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hel", "lo"], reasoning=THOUGHT))
    async with gateway.sdk() as client:
        folded = await client.completions.create(model="qwythos", prompt="Say hello")
        assert folded.object == "text_completion"
        assert folded.choices[0].text == "Hello"
        stream = await client.completions.create(model="qwythos", prompt="Say hello", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello"
    sent = worker.requests[0].json
    assert sent["messages"] == [{"role": "user", "content": "Say hello"}]
