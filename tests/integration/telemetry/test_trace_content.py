"""What traces hold of prompts and answers: nothing, unless that was asked for; and then no more
than clients see."""

import json
from typing import Any

import pytest

from app.settings import SettingsError
from app.telemetry.shown_answer import MAX_CONTENT_CHARACTERS
from tests.support.answers import Answer, ToolCall
from tests.support.collector import Collector, ReceivedSpan
from tests.support.gateway import PEPPER, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

ASKED, SAID, THOUGHT, ARGUMENT = "canary-asked", "canary-said", "canary-thought", "canary-argument"
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "canary-described",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}
MESSAGES = [
    {"role": "system", "content": "canary-system"},
    {"role": "user", "content": f"Is it {ASKED}? Write to ann@example.org"},
]
ANSWER = Answer(
    (f"It is {SAID}.",),
    (f"I think {THOUGHT}.",),
    (ToolCall("look_up", ('{"word": "', f'{ARGUMENT}"}}')),),
    "tool_calls",
)


async def asked_once(gateway: RunningGateway, collector: Collector, **fields: Any) -> ReceivedSpan:
    before = len(collector.of_kind("SERVER"))
    response = await gateway.chat(messages=MESSAGES, tools=[TOOL], **fields)
    assert response.status == 200, response.body
    return (await collector.requests(before + 1))[-1]


async def started(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector, **settings: Any
) -> RunningGateway:
    worker.answers(ANSWER)
    return await start_gateway(
        worker, otlp_endpoint=collector.url, trace_flush_seconds=0.05, **settings
    )


async def test_no_byte_of_a_prompt_or_an_answer_is_exported_by_default(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, worker, collector)
    await asked_once(gateway, collector, stream=True, user="canary-user")
    await asked_once(gateway, collector, key=await gateway.issue_key(reasoning="visible"))
    exported = b"".join(collector.bodies)
    assert b"canary" not in exported
    assert gateway.key.encode() not in exported
    assert gateway.key_id.encode() in exported


async def test_content_that_was_asked_for_is_what_the_client_saw_and_no_thought(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, worker, collector, trace_content=True)
    span = await asked_once(gateway, collector)
    system, user = json.loads(span.attributes["gen_ai.input.messages"])
    assert system["role"] == "system"
    assert ASKED in user["parts"][0]["content"]
    (answer,) = json.loads(span.attributes["gen_ai.output.messages"])
    text, call = answer["parts"]
    assert text == {"type": "text", "content": f"It is {SAID}."}
    assert call["name"] == "look_up"
    assert ARGUMENT in call["arguments"]
    assert answer["finish_reason"] == "tool_calls"
    assert THOUGHT.encode() not in b"".join(collector.bodies)
    # A key that shows thoughts shows them here, too.
    shown = await asked_once(gateway, collector, key=await gateway.issue_key(reasoning="visible"))
    (answer,) = json.loads(shown.attributes["gen_ai.output.messages"])
    assert answer["parts"][0] == {"type": "reasoning", "content": f"I think {THOUGHT}."}


async def test_a_key_of_which_no_text_is_kept_has_none_in_its_traces(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, worker, collector, trace_content=True)
    await asked_once(gateway, collector, key=await gateway.issue_key(audit="metadata"))
    assert b"canary" not in b"".join(collector.bodies)


async def test_secrets_of_ours_that_a_prompt_holds_are_masked_as_in_the_audit_log(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, worker, collector, trace_content=True)
    asked = [{"role": "user", "content": f"Is {gateway.key} good? And {PEPPER}?"}]
    await gateway.chat(messages=asked)
    span = await collector.request()
    (kept,) = json.loads(span.attributes["gen_ai.input.messages"])
    assert kept["parts"][0]["content"] == "Is sk-qw-*** good? And ***?"


async def test_content_is_cut_to_what_a_collector_takes(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, worker, collector, trace_content=True)
    worker.answers(Answer([f"word {number} " for number in range(5_000)]))
    long = [{"role": "user", "content": "x" * 40_000}, {"role": "user", "content": "and now?"}]
    await gateway.chat(messages=long)
    span = await collector.request()
    (kept,) = json.loads(span.attributes["gen_ai.input.messages"])
    assert kept["parts"][0]["content"] == "and now?"
    (answer,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert len(answer["parts"][0]["content"]) == 32_768
    assert span.attributes["gateway.content_cut"] is True


async def test_the_half_of_a_secret_at_which_an_answer_is_cut_is_left_out(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, worker, collector, trace_content=True)
    words = "".join(f"word {number} " for number in range(5_000))
    before = words[: MAX_CONTENT_CHARACTERS - len(PEPPER) + 1]
    pieces = [before[at : at + 16] for at in range(0, len(before), 16)]
    worker.answers(Answer([*pieces, PEPPER[:10], PEPPER[10:], " and more"]))
    await gateway.chat()
    (answer,) = json.loads((await collector.request()).attributes["gen_ai.output.messages"])
    assert answer["parts"][0]["content"] == before


async def test_content_and_redaction_of_what_is_kept_exclude_each_other(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_TRACE_CONTENT"):
        await started(
            start_gateway, worker, collector, trace_content=True, audit_redaction="default"
        )
