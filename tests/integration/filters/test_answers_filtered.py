"""What the filter's rules find in an answer does not reach its client, wherever it stands and
however the worker cuts it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.filters.samples import (
    ADDRESS,
    CARD,
    MASKS,
    TOKEN,
    in_turns,
    interleaved,
    text_holding,
)
from tests.support.answers import Answer, Framing, ToolCall
from tests.support.gateway import CHAT, HELLO, Response, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker
from tests.support.sse_events import read_stream

TOOL = {"type": "function", "function": {"name": "send"}}
streamed_or_folded = pytest.mark.parametrize("stream", [True, False])
secrets = pytest.mark.parametrize("secret", MASKS, ids=MASKS.values())


def shown(response: Response, choice: int = 0) -> str:
    """The text of an answer, streamed or folded."""
    if response.headers["content-type"] == "application/json":
        text: str = response.json["choices"][choice]["message"]["content"]
        return text
    return response.stream.text(choice)


def finishes(response: Response) -> dict[int, str]:
    if response.headers["content-type"] == "application/json":
        return {part["index"]: part["finish_reason"] for part in response.json["choices"]}
    return {
        part["index"]: part["finish_reason"]
        for chunk in response.stream.chunks
        for part in chunk["choices"]
        if part["finish_reason"] is not None
    }


def arguments(response: Response) -> list[Any]:
    """Of all calls, as a client reads them."""
    if response.headers["content-type"] == "application/json":
        calls = [call["function"] for call in response.message["tool_calls"]]
    else:
        calls = response.stream.tool_calls
    return [json.loads(call["arguments"]) for call in calls]


# -- the answer


@secrets
@streamed_or_folded
async def test_what_a_rule_finds_is_masked_however_it_was_cut(
    stream: bool, secret: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    text = text_holding(secret)
    half = text.index(secret) + len(secret) // 2
    by_character = Answer(list(text))
    answers = {
        "whole": Answer([text]),
        "halves": Answer([text[:half], text[half:]]),
        "characters": by_character,
        "one read": replace(by_character, framing=Framing(at_once=True)),
        "one byte at a time": Answer([text[:half], text[half:]], framing=Framing(write_bytes=1)),
    }
    for name, answer in answers.items():
        worker.answers(answer)
        response = await gateway.chat(stream=stream)
        assert shown(response) == text_holding(MASKS[secret]), name
        assert finishes(response) == {0: "stop"}, name
        assert secret not in response.body.decode()


@streamed_or_folded
async def test_a_secret_at_the_very_end_is_masked(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["It is ", *TOKEN]))
    assert shown(await gateway.chat(stream=stream)) == "It is [github-token]"


@streamed_or_folded
async def test_what_only_began_like_a_secret_is_shown(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    text = "Tokens begin with ghp_abc, addresses have a Maria.Huber@ and cards 4539 1488."
    worker.answers(Answer(list(text)))
    assert shown(await gateway.chat(stream=stream)) == text


@streamed_or_folded
async def test_invisible_and_look_alike_characters_hide_nothing(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    evasions = ["\u200b".join(ADDRESS), ADDRESS.replace("a", "\u0430"), ADDRESS.replace("@", "%40")]
    for evasion in evasions:
        worker.answers(Answer(list(text_holding(evasion))))
        assert shown(await gateway.chat(stream=stream)) == text_holding("[email]")


@streamed_or_folded
async def test_the_older_route_is_filtered_too(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(list(text_holding(ADDRESS))))
    body = json.dumps({"model": "qwythos", "prompt": "Hi", "stream": stream}).encode()
    response = await gateway.request("POST", "/v1/completions", body=body)
    if stream:
        parts = [part for chunk in response.stream.chunks for part in chunk["choices"]]
        assert "".join(part["text"] for part in parts) == text_holding("[email]")
    else:
        assert response.json["choices"][0]["text"] == text_holding("[email]")


async def test_a_key_has_the_rules_of_its_profile(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, filter_profile="secrets-only")
    text = f"{ADDRESS} has {TOKEN}"
    worker.answers(Answer([text]))
    assert shown(await gateway.chat()) == f"{ADDRESS} has [github-token]"
    for profile, expected in {
        "default": "[email] has [github-token]",
        "off": text,
        "dry-run": text,
    }.items():
        key = await gateway.issue_key(filter_profile=profile)
        assert shown(await gateway.chat(key=key)) == expected


# -- what blocks

ENDLESS = [f"word {number} " for number in range(10_000)]


@streamed_or_folded
async def test_a_block_ends_the_answer_and_stops_the_worker(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer([f"{ADDRESS}: ", *TOKEN, *ENDLESS], pace_seconds=0.002))
    key = await gateway.issue_key(filter_profile="strict")
    options = {"include_usage": True} if stream else None
    response = await gateway.chat(key=key, stream=stream, stream_options=options)
    assert shown(response) == "[email]: "
    assert finishes(response) == {0: "content_filter"}
    await worker.closed(worker.only, within=1.0)
    usage = response.stream.usage if stream else response.json["usage"]
    assert usage is not None
    assert 20 < usage["completion_tokens"] < 2_000
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("completed", 200, None)
    assert row.finish_reason == "content_filter"
    assert row.completion_tokens == usage["completion_tokens"]
    assert row.findings["stopped"] == "filtered"
    hits = [(hit["rule"], hit["action"]) for hit in row.findings["filter"]]
    assert hits == [("personal-data.email", "mask"), ("secrets.github-token", "block")]


@streamed_or_folded
async def test_a_block_at_the_very_beginning_is_an_answer_and_not_asked_again(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(list(TOKEN)))
    key = await gateway.issue_key(filter_profile="strict")
    response = await gateway.chat(key=key, stream=stream)
    assert shown(response) == ""
    assert finishes(response) == {0: "content_filter"}
    assert len(worker.requests) == 1


@streamed_or_folded
async def test_a_block_in_the_arguments_of_a_call_lets_nothing_of_the_call_out(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    call = ToolCall("send", ['{"text": "', *TOKEN, '"}'])
    worker.answers(Answer(["Sending."], tool_calls=[call], finish="tool_calls"))
    key = await gateway.issue_key(filter_profile="strict")
    response = await gateway.chat(key=key, stream=stream, tools=[TOOL])
    assert "Sending.".startswith(shown(response))
    assert finishes(response) == {0: "content_filter"}
    assert b'"tool_calls":[' not in response.body
    assert b'"send"' not in response.body


@streamed_or_folded
async def test_a_block_in_the_arguments_of_a_call_leaves_the_text_before_it(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    call = ToolCall("send", ['{"text": "', *TOKEN, '"}'])
    worker.answers(Answer(["Sending."], tool_calls=[call], finish="tool_calls"))
    key = await gateway.issue_key(filter_profile="strict")
    response = await gateway.chat(key=key, stream=stream, tools=[TOOL])
    assert shown(response) == "Sending."


async def test_a_thought_is_shown_to_its_end_before_the_answer_begins(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["I will write. ", "Done."], reasoning=["I write to ", "Maria.Huber"]))
    key = await gateway.issue_key(reasoning="visible")
    deltas = (await gateway.stream(key=key)).deltas
    kinds = [name for delta in deltas for name in ("reasoning", "content") if delta.get(name)]
    assert kinds == sorted(kinds, reverse=True)


# -- thought and calls


@streamed_or_folded
async def test_a_thought_that_may_be_seen_is_filtered(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Done."], reasoning=list(text_holding(CARD))))
    key = await gateway.issue_key(reasoning="visible", reasoning_content=True)
    response = await gateway.chat(key=key, stream=stream)
    parts = response.stream.deltas if stream else [response.message]
    for name in ("reasoning", "reasoning_content"):
        thought = "".join(part.get(name) or "" for part in parts)
        assert thought == text_holding("[card]")
    assert shown(response) == "Done."


async def test_a_block_in_a_thought_ends_the_answer_before_it_began(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Done."], reasoning=list(text_holding(TOKEN)), pace_seconds=0.001))
    key = await gateway.issue_key(reasoning="visible", filter_profile="strict")
    response = await gateway.chat(key=key)
    assert response.message["reasoning"] == "As asked: "
    assert shown(response) == ""
    assert finishes(response) == {0: "content_filter"}


@streamed_or_folded
async def test_the_arguments_of_a_call_are_masked_and_stay_json(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    given = {
        "to": [ADDRESS, {ADDRESS: "a key"}],
        "card": int(CARD.replace(" ", "")),
        "text": f'"{TOKEN}"\n\\ \u00fc',
        "count": 3,
    }
    escaped = json.dumps(given).replace("@", "\\u0040")
    worker.answers(Answer([], tool_calls=[ToolCall("send", list(escaped))], finish="tool_calls"))
    response = await gateway.chat(stream=stream, tools=[TOOL])
    assert arguments(response) == [
        {
            "to": ["[email]", {"[email]": "a key"}],
            "card": "[card]",
            "text": '"[github-token]"\n\\ \u00fc',
            "count": 3,
        }
    ]
    assert finishes(response) == {0: "tool_calls"}


@streamed_or_folded
async def test_calls_without_a_hit_leave_as_they_were_written(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    written = '{"n" : 1.50, "big":123456789012345678901234567890,"text":"\\u00fc"}'
    worker.answers(Answer([], tool_calls=[ToolCall("send", list(written))], finish="tool_calls"))
    response = await gateway.chat(stream=stream, tools=[TOOL])
    if stream:
        assert response.stream.tool_calls[0]["arguments"] == written
    else:
        assert response.message["tool_calls"][0]["function"]["arguments"] == written


# -- choices and calls beside each other


@streamed_or_folded
async def test_choices_that_come_in_turns_are_filtered_each_by_itself(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    local, _, domain = ADDRESS.partition("@")
    texts = {0: f"{local}@", 1: domain, 2: text_holding(ADDRESS), 3: text_holding(TOKEN)}
    worker.answers(interleaved(in_turns(texts), dict.fromkeys(texts, "stop")))
    response = await gateway.chat(stream=stream, n=4)
    assert [shown(response, choice) for choice in texts] == [
        f"{local}@",
        domain,
        text_holding("[email]"),
        text_holding("[github-token]"),
    ]
    assert finishes(response) == dict.fromkeys(texts, "stop")
    row = await gateway.audited(response.request_id)
    where = {hit["where"]: hit["rule"] for hit in row.findings["filter"]}
    assert where == {
        "choices[2].answer": "personal-data.email",
        "choices[3].answer": "secrets.github-token",
    }


@streamed_or_folded
async def test_a_blocked_choice_leaves_the_others_alone(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    texts = {0: text_holding(TOKEN), 1: "Nothing of that kind is in this one, and it is longer."}
    worker.answers(interleaved(in_turns(texts), {0: "stop", 1: "length"}))
    key = await gateway.issue_key(filter_profile="strict")
    response = await gateway.chat(key=key, stream=stream, n=2)
    assert [shown(response, choice) for choice in texts] == ["As asked: ", texts[1]]
    assert finishes(response) == {0: "content_filter", 1: "length"}


async def test_the_worker_is_stopped_once_every_choice_is_blocked(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["It is ", *TOKEN, *ENDLESS], pace_seconds=0.002))
    key = await gateway.issue_key(filter_profile="strict")
    response = await gateway.chat(key=key, stream=True, n=2)
    assert [response.stream.text(choice) for choice in (0, 1)] == ["It is ", "It is "]
    assert finishes(response) == {0: "content_filter", 1: "content_filter"}
    await worker.closed(worker.only, within=1.0)


@streamed_or_folded
async def test_calls_beside_each_other_are_filtered_each_by_itself(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    local, _, domain = ADDRESS.partition("@")
    values = [f"{local}@", domain, ADDRESS]
    calls = [
        ToolCall("send", list(json.dumps({"to": value})), id=f"call_{number}")
        for number, value in enumerate(values)
    ]
    worker.answers(Answer([f"{local}@"], tool_calls=calls, finish="tool_calls"))
    response = await gateway.chat(stream=stream, tools=[TOOL])
    assert arguments(response) == [{"to": f"{local}@"}, {"to": domain}, {"to": "[email]"}]
    assert shown(response) == f"{local}@"


# -- silence and failure


async def test_keep_alives_stand_between_events_and_let_nothing_out(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker,
        commit_after_seconds=0.005,
        keep_alive_comment_seconds=0.01,
        empty_delta_seconds=0.03,
    )
    text = text_holding(ADDRESS)
    worker.answers(Answer(list(text), pace_seconds=0.015))
    async with gateway.raw() as client:
        await client.post(
            CHAT, gateway.key, {"model": "qwythos", "messages": HELLO, "stream": True}
        )
        await client.head()
        pieces = await client.chunks()
    for piece in pieces:
        read_stream(piece, whole=False)
    stream = read_stream(b"".join(pieces))
    assert stream.comments > 5
    assert stream.text() == text_holding("[email]")
    assert stream.roles == ["assistant"]
