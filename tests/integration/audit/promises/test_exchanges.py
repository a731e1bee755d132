"""What is kept of a request is what was sent and what came back."""

import json
from typing import Any

import pytest

from app.audit import recording
from tests.integration.audit.promises.kept import Kept, kept
from tests.support.answers import Answer, Break, End, ToolCall
from tests.support.gateway import HELLO, Json, Response, RunningGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

EMOJI = "\U0001f9d9\u200d\u2642\ufe0f caf\u00e9 \u4f60\u597d"
TOOL: Json = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}
CALL = ToolCall("look_up", ('{"city": ', '"Paris"}'))


def without_nulls(message: Json) -> Json:
    return {name: value for name, value in message.items() if value is not None}


async def check_kept(gateway: RunningGateway, sent: Json, response: Response) -> Kept:
    """A null in a message says what a missing field says."""
    found = await kept(gateway, response.request_id)
    if "messages" in sent:
        assert found.messages == [without_nulls(message) for message in sent["messages"]]
    assert found.parameters == {
        name: value for name, value in sent.items() if name not in ("messages", "prompt")
    }
    return found


async def send(gateway: RunningGateway, **fields: Any) -> tuple[Json, Response]:
    body = chat_body(**fields)
    return json.loads(body), await gateway.chat(**fields)


ODD_MESSAGES = [
    pytest.param([{"role": "user", "content": "a\0b\x01\x7f\u2028"}], id="controls"),
    pytest.param([{"role": "user", "content": EMOJI}], id="emoji"),
    pytest.param(
        [{"role": "user", "content": [{"type": "text", "text": "part"}], "name": None}], id="parts"
    ),
    pytest.param(
        [
            {"role": "user", "content": "look"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "look_up", "arguments": '{"a":"\\u0000"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "found\0"},
        ],
        id="tools",
    ),
    pytest.param([{"role": "user", "content": str(number)} for number in range(2_000)], id="crowd"),
]


@pytest.mark.parametrize("messages", ODD_MESSAGES)
async def test_what_was_sent_is_what_is_kept(
    gateway: RunningGateway, worker: ScriptedWorker, messages: list[Json]
) -> None:
    sent, response = await send(gateway, messages=messages, temperature=0.7, user="u", seed=2**53)
    assert response.status == 200, response.body
    found = await check_kept(gateway, sent, response)
    assert found.answers == {"0": {"role": "assistant", "content": "Hello there."}}


async def test_ten_thousand_messages_are_kept_in_their_order(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    messages = [{"role": "user", "content": f"{number}"} for number in range(10_000)]
    sent, response = await send(gateway, messages=messages)
    if response.status == 400:  # more than the edge takes: not one is asked of a worker
        assert worker.requests == []
        return
    await check_kept(gateway, sent, response)


async def test_a_lone_surrogate_is_no_json_and_is_refused_without_its_text(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = b'{"model":"qwythos","messages":[{"role":"user","content":"\\ud800"}]}'
    response = await gateway.request("POST", "/v1/chat/completions", body=body)
    assert response.status == 400
    assert response.error["code"] == "invalid_json"
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.content) == ("refused", None)


async def test_a_deep_schema_is_kept(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    schema: Json = {"type": "object"}
    for _ in range(12):
        schema = {"type": "object", "properties": {"inner": schema}}
    tool = {"type": "function", "function": {"name": "deep", "parameters": schema}}
    sent, response = await send(gateway, tools=[tool])
    await check_kept(gateway, sent, response)


async def test_metadata_nested_as_deep_as_json_is_read_is_kept(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """Where the edge takes it at all: what it takes is recorded."""
    deep = b'{"x":' * 900 + b"1" + b"}" * 900
    body = chat_body()[:-1] + b',"gateway_unknown":' + deep + b"}"
    response = await gateway.request("POST", "/v1/chat/completions", body=body)
    row = await gateway.audited(response.request_id)
    assert row.outcome in ("completed", "refused")


async def test_the_older_route_has_its_prompt_kept(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = json.dumps({"model": "qwythos", "prompt": f"Once {EMOJI}", "max_tokens": 9}).encode()
    response = await gateway.request("POST", "/v1/completions", body=body)
    assert response.status == 200
    found = await kept(gateway, response.request_id)
    assert found.messages == [{"prompt": f"Once {EMOJI}"}]
    assert found.parameters == {"model": "qwythos", "max_tokens": 9}
    assert found.answers["0"]["content"] == response.json["choices"][0]["text"]


ANSWERS = [
    pytest.param(Answer(("Hel", "lo \U0001f9d9")), {}, id="text"),
    pytest.param(Answer((), ("Hm.",), (CALL,), "tool_calls"), {"tools": [TOOL]}, id="a call"),
    pytest.param(
        Answer(
            ("Let me see.",), ("Hm.",), (CALL, ToolCall("look_up", ("{}",), "call_2")), "tool_calls"
        ),
        {"tools": [TOOL]},
        id="text and calls",
    ),
    pytest.param(
        Answer(("One. ", "Two. ", "Stop here. ", "Three.")), {"stop": ["Stop"]}, id="stop"
    ),
    pytest.param(Answer(("Mail a.b@example.com or b@example.org now.",)), {}, id="filtered"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("answer", "fields"), ANSWERS)
async def test_the_answer_is_kept_as_its_client_got_it(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    answer: Answer,
    fields: Json,
    stream: bool,
) -> None:
    worker.answers(answer)
    sent, response = await send(gateway, stream=stream, **fields)
    found = await check_kept(gateway, sent, response)
    assert found.partial is False
    check_same(found.answers["0"], response, stream=stream)


def check_same(answer: Json, response: Response, *, stream: bool) -> None:
    if not stream:
        assert answer == without_nulls(response.message)
        return
    assert (answer.get("content") or "") == response.stream.text()
    calls = [{"id": call["id"], **call["function"]} for call in answer.get("tool_calls", ())]
    assert calls == response.stream.tool_calls


async def test_each_of_several_choices_is_kept(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    sent, response = await send(gateway, n=2)
    found = await check_kept(gateway, sent, response)
    got = {str(c["index"]): without_nulls(c["message"]) for c in response.json["choices"]}
    assert found.answers == got
    assert len(got) == 2


async def test_an_answer_that_breaks_off_is_kept_as_far_as_it_went(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["some words " * 30] * 9, pace_seconds=0.02, breaks=Break(End.RESET, 6)))
    response = await gateway.chat(stream=True)
    assert response.stream.error is not None
    assert response.stream.text()
    found = await kept(gateway, response.request_id)
    assert found.answers["0"]["content"] == response.stream.text()
    assert (await gateway.audited(response.request_id)).outcome == "failed"


async def test_a_conversation_shares_what_was_said_before(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    first = await gateway.chat()
    answer = first.message
    messages = [*HELLO, answer, {"role": "user", "content": "And then?"}]
    sent, second = await send(gateway, messages=messages)
    await check_kept(gateway, sent, second)
    rows = [await gateway.audited(one.request_id) for one in (first, second)]
    assert rows[0].conversation == rows[1].conversation is not None
    assert rows[0].content is not None
    row = await gateway.audited(second.request_id)
    assert row.content is not None
    assert row.content["messages"] == 3


@pytest.mark.parametrize("broken", ["content_of", "answer_content"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_defect_in_what_is_kept_fails_the_answer_and_leaves_its_record(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    stream: bool,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(recording, broken, fail)
    response = await gateway.chat(stream=stream)
    if stream and broken == "answer_content":
        assert response.stream.finish_reasons == []
        assert response.stream.error is not None
        assert response.stream.error["code"] == "internal_error"
    else:
        assert (response.status, response.error["code"]) == (500, "internal_error")
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.content) == ("crashed", 500, None)
