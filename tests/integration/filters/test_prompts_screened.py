"""What the rules find in a prompt: masked before a worker sees it, refused, or only counted."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from app.protocol.filters.rule import Rule
from tests.integration.filters.samples import (
    ADDRESS,
    CARD,
    TOKEN,
    metrics_of,
    text_holding,
    use_rule,
    write_rules,
)
from tests.support.conditions import eventually
from tests.support.gateway import HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

TOOL = {"type": "function", "function": {"name": "send"}}
WAIT_SECONDS = 60.0  # for another thread; only spent on failure
# `guarded` looks at prompts alone: what it refuses was not found in an answer.
PROFILES = """
profiles:
  guarded: {input: {secrets: refuse, personal-data: mask}}
  noted: {input: {secrets: flag, personal-data: flag}}
"""

Json = dict[str, Any]


@pytest.fixture
async def gateway(
    start_gateway: StartGateway, worker: ScriptedWorker, tmp_path: Path
) -> RunningGateway:
    return await start_gateway(worker, rules=write_rules(tmp_path / "own.yaml", PROFILES))


def called_with(arguments: str, result: str, **more: Any) -> list[Json]:
    """A question, the model's call, and what the tool answered."""
    function = {"name": "send", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call], **more},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def user(text: object) -> Json:
    return {"role": "user", "content": text}


def asked(text: str) -> list[Json]:
    return [user(text)]


# -- masked


@pytest.mark.parametrize("stream", [True, False])
async def test_the_worker_is_sent_the_mask_wherever_the_secret_stood(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict")
    written = json.dumps({"to": TOKEN, TOKEN: 1}).replace("ghp_", "\\u0067hp_")
    messages = [
        {"role": "system", "content": text_holding(TOKEN)},
        user(text_holding(TOKEN)),
        {"role": "assistant", "content": text_holding(TOKEN)},
        user([{"type": "text", "text": "It is "}, {"type": "text", "text": TOKEN}]),
        *called_with(written, text_holding(TOKEN)),
    ]
    schema = {"properties": {"to": {"type": "string", "enum": [TOKEN], "description": TOKEN}}}
    function = {"name": "send", "description": text_holding(TOKEN), "parameters": schema}
    tools = [{"type": "function", "function": function}]
    response = await gateway.chat(key=key, stream=stream, messages=messages, tools=tools)
    assert response.status == 200
    sent = worker.only.json
    assert TOKEN not in json.dumps(sent)
    system, first, earlier, parts, _, called, result = sent["messages"]
    for message in (system, first, earlier, result):
        assert message["content"] == text_holding("[github-token]")
    assert "[github-token]" in json.dumps(parts["content"])
    (call,) = called["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert arguments == {"to": "[github-token]", "[github-token]": 1}
    (tool,) = sent["tools"]
    assert tool["function"]["description"] == text_holding("[github-token]")
    shown = tool["function"]["parameters"]["properties"]["to"]
    assert shown == {"type": "string", "enum": ["[github-token]"], "description": "[github-token]"}


async def test_a_thought_that_is_sent_back_is_masked(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict", reasoning="visible")
    messages = called_with("{}", "3", reasoning=text_holding(TOKEN))
    assert (await gateway.chat(key=key, messages=messages, tools=[TOOL])).status == 200
    sent = worker.only.json["messages"][1]
    assert sent["reasoning"] == text_holding("[github-token]")
    assert TOKEN not in json.dumps(worker.only.json)


async def test_a_schema_for_the_answer_is_masked(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict")
    schema = {"type": "object", "properties": {"to": {"type": "string", "const": ADDRESS}}}
    shape = {"type": "json_schema", "json_schema": {"name": "mail", "schema": schema}}
    assert (await gateway.chat(key=key, response_format=shape)).status == 200
    assert ADDRESS not in json.dumps(worker.only.json)
    assert "[email]" in json.dumps(worker.only.json["response_format"])


async def test_examples_in_a_schema_are_masked_whatever_their_keys(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict")
    schema = {"properties": {"to": {"examples": [{"name": ADDRESS, "id": TOKEN}]}}}
    tool = {"type": "function", "function": {"name": "send", "parameters": schema}}
    assert (await gateway.chat(key=key, tools=[tool])).status == 200
    sent = json.dumps(worker.only.json)
    assert ADDRESS not in sent
    assert TOKEN not in sent


async def test_a_long_prompt_is_masked_in_the_same_way(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict")
    filler = "ordinary words of a long text, " * 600  # beyond what is looked at in the loop
    messages = asked(f"{filler}{text_holding(TOKEN)} {filler}{text_holding(CARD)}")
    assert (await gateway.chat(key=key, messages=messages)).status == 200
    (message,) = worker.only.json["messages"]
    masked = f"{filler}{text_holding('[github-token]')} {filler}{text_holding('[card]')}"
    assert message["content"] == masked


async def test_the_older_route_is_screened_too(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict")
    body = json.dumps({"model": "qwythos", "prompt": text_holding(TOKEN)}).encode()
    assert (await gateway.request("POST", "/v1/completions", body=body, key=key)).status == 200
    assert worker.only.json["messages"] == asked(text_holding("[github-token]"))


async def test_a_prompt_is_the_clients_own_business_by_default(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await gateway.chat(messages=asked(text_holding(TOKEN)))).status == 200
    assert worker.only.json["messages"] == asked(text_holding(TOKEN))


# -- refused

SYSTEM = {"role": "system", "content": "Be brief."}
LATER_SYSTEM = {"role": "system", "content": "Be kind."}
PLACES: dict[str, tuple[list[Json], str]] = {
    "a system text": ([{"role": "system", "content": TOKEN}, *HELLO], "messages[0]"),
    "the user's text": ([SYSTEM, user(TOKEN)], "messages[1]"),
    "history": ([user("a"), {"role": "assistant", "content": TOKEN}, user("b")], "messages[1]"),
    "behind a later system text": (
        [user("a"), SYSTEM, {"role": "assistant", "content": "b"}, LATER_SYSTEM, user(TOKEN)],
        "messages[4]",
    ),
    "before a later system text": ([user(TOKEN), SYSTEM], "messages[0]"),
    "a tool's result": (called_with("{}", TOKEN), "messages[2]"),
    "arguments": (called_with(json.dumps({"a": [TOKEN]}), "3"), "messages[1]"),
    "parts of a text": (
        [user([{"type": "text", "text": TOKEN[:20]}, {"type": "text", "text": TOKEN[20:]}])],
        "messages[0]",
    ),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_prompt_that_holds_what_it_may_not_is_refused_by_the_clients_own_index(
    place: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    messages, param = PLACES[place]
    key = await gateway.issue_key(filter_profile="guarded")
    response = await gateway.chat(key=key, messages=messages, stream=True)
    assert response.status == 400
    assert response.error == {
        "message": f"'{param}' holds something that this API key may not send "
        "(rule 'secrets.github-token').",
        "type": "invalid_request_error",
        "param": param,
        "code": "content_filter",
    }
    assert worker.requests == []
    assert "/tokenize" not in worker.paths
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("refused", 400, "content_filter")
    (hit,) = row.findings["filter"]
    assert (hit["rule"], hit["action"]) == ("secrets.github-token", "block")
    assert hit["where"] == param
    assert TOKEN not in str(row)


async def test_a_later_system_text_that_is_refused_has_its_own_index(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="guarded")
    messages = [SYSTEM, *HELLO, {"role": "system", "content": TOKEN}]
    response = await gateway.chat(key=key, messages=messages)
    assert response.error["param"] == "messages[2]"


async def test_tools_schemas_and_prompts_are_refused_by_their_names(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="guarded")
    tools = [TOOL, {"type": "function", "function": {"name": "b", "description": TOKEN}}]
    assert (await gateway.chat(key=key, tools=tools)).error["param"] == "tools[1]"
    schema = {"type": "object", "description": TOKEN}
    shape = {"type": "json_schema", "json_schema": {"name": "mail", "schema": schema}}
    response = await gateway.chat(key=key, response_format=shape)
    assert response.error["param"] == "response_format"
    body = json.dumps({"model": "qwythos", "prompt": TOKEN}).encode()
    response = await gateway.request("POST", "/v1/completions", body=body, key=key)
    assert (response.status, response.error["param"]) == (400, "prompt")
    assert worker.requests == []


async def test_what_one_pack_masks_another_still_refuses(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="guarded")
    assert (await gateway.chat(key=key, messages=asked(f"{ADDRESS} has {TOKEN}"))).status == 400
    assert (await gateway.chat(key=key, messages=asked(f"{ADDRESS} has it"))).status == 200
    assert worker.only.json["messages"] == asked("[email] has it")


# -- counted


@pytest.mark.parametrize("profile", ["noted", "dry-run"])
async def test_what_is_only_flagged_is_sent_as_it_was(
    profile: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile=profile)
    text = f"{ADDRESS} has {TOKEN}"
    response = await gateway.chat(key=key, messages=asked(text))
    assert response.status == 200
    assert worker.only.json["messages"] == asked(text)
    row = await gateway.audited(response.request_id)
    assert sorted((hit["rule"], hit["action"]) for hit in row.findings["filter"]) == [
        ("personal-data.email", "flag"),
        ("secrets.github-token", "flag"),
    ]
    labels = 'action="flag",rule="secrets.github-token",surface="prompt"'
    assert f"gateway_filter_hits_total{{{labels}}} 1.0" in await metrics_of(gateway)


# -- long ones


async def test_the_gateway_answers_others_while_a_long_prompt_is_screened(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    looking, go_on = threading.Event(), threading.Event()

    def wait(text: str) -> bool:
        looking.set()
        return go_on.wait(WAIT_SECONDS)

    use_rule(gateway, Rule("acme.word", "NONCE7f3a", bound=9, valid=wait, replacement="[word]"))
    messages = asked("word " * 800_000 + "NONCE7f3a")  # 4 MB
    asking = asyncio.create_task(gateway.chat(messages=messages))
    try:
        await eventually(looking.is_set, WAIT_SECONDS, "the prompt is looked at")
        assert (await gateway.request("GET", "/healthz")).status == 200
        assert worker.requests == []
        assert not asking.done()
    finally:
        go_on.set()
        response = await asking
    (hit,) = (await gateway.audited(response.request_id)).findings["filter"]
    assert (hit["rule"], hit["action"], hit["where"]) == ("acme.word", "mask", "messages[0]")


async def test_a_prompt_of_4_mb_is_refused_for_its_last_words(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="guarded")
    messages = asked("Ordinary words of a long text. " * 130_000 + text_holding(TOKEN))
    asking = asyncio.create_task(gateway.chat(key=key, messages=messages))
    answered = 0
    while not asking.done():
        assert (await gateway.request("GET", "/healthz")).status == 200
        answered += 1
    assert answered > 1
    response = await asking
    assert (response.status, response.error["code"]) == (400, "content_filter")
    assert worker.requests == []
