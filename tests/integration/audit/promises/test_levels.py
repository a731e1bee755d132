"""How much of a text is kept, by the level of its key; and never a secret of ours."""

import base64
import os
from dataclasses import replace

import pytest

from tests.integration.audit.promises.kept import WitnessDisk, is_stored, kept
from tests.support.answers import Answer, Break, End, ToolCall
from tests.support.gateway import CHAT, HELLO, Json, RunningGateway, StartGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

# Each is looked for in one database, so what is said elsewhere is another word.
NONCE = "NONCE7f3a"
STRANGER = "NONCEe811"
WORD = "WORD44b0"
THOUGHT = "THOUGHT9d2e"
KEPT_THOUGHT = "THOUGHT02cc"
SECRET = "sk-qw-" + "aB3dEfGh1jKlMn0pQrStUvWxYz" * 2
SLOW = 0.01  # between tokens: there are chunks of each answer
TOOL: Json = {
    "type": "function",
    "function": {
        "name": f"look_{NONCE}",
        "description": NONCE,
        "parameters": {"type": "object", "properties": {NONCE: {"type": "string"}}},
    },
}
PLAIN_TOOL: Json = {"type": "function", "function": {"name": "look_up", "parameters": {}}}


@pytest.fixture
async def gateway(
    witness: WitnessDisk, start_gateway: StartGateway, worker: ScriptedWorker
) -> RunningGateway:
    key = base64.b64encode(os.urandom(32)).decode()
    return await start_gateway(worker, audit_chunk_seconds=0.001, sealing_key=key)


def saying(text: str, thought: str = THOUGHT) -> Answer:
    pieces = [f"{text} {number} and so on and on. " for number in range(20)]
    return Answer(pieces, [f"{thought} ", "indeed."], pace_seconds=SLOW)


async def test_metadata_keeps_no_text_of_request_or_answer(
    witness: WitnessDisk, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    call = ToolCall(f"other_{NONCE}", ('{"a": 1}',))
    worker.answers(saying(NONCE), replace(saying(NONCE), tool_calls=(call,), finish="tool_calls"))
    key = await gateway.issue_key(audit="metadata", reasoning="visible")
    ids = []
    for stream in (True, False):
        response = await gateway.chat(
            key=key,
            stream=stream,
            messages=[{"role": "user", "content": f"{NONCE}: may I kill my process?"}],
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": f"look_{NONCE}"}}
            if stream
            else None,
            stop=[f"stop {NONCE}"],
            metadata={"a": NONCE},
            user=NONCE,
        )
        ids.append(response.request_id)
    narrow = await gateway.issue_key(audit="metadata", tools=[{"name": "no_other"}])
    refused = await gateway.chat(key=narrow, tools=[TOOL])
    assert refused.status == 403
    for request_id in (*ids, refused.request_id):
        row = await gateway.audited(request_id)
        assert (row.level, row.content) == ("metadata", None)
    assert not await is_stored(gateway, witness, NONCE)
    assert not await is_stored(gateway, witness, THOUGHT)


@pytest.mark.parametrize("policy", [{}, {"reasoning": "visible"}, {"reasoning": "sealed"}])
async def test_full_keeps_no_thought(
    witness: WitnessDisk, gateway: RunningGateway, worker: ScriptedWorker, policy: Json
) -> None:
    worker.answers(saying(WORD))
    key = await gateway.issue_key(**policy)
    for stream in (True, False):
        response = await gateway.chat(key=key, stream=stream)
        found = await kept(gateway, response.request_id)
        assert WORD in found.answers["0"]["content"]
        sealed = policy.get("reasoning") == "sealed"
        assert ("reasoning_details" in found.answers["0"]) is sealed
    assert await is_stored(gateway, witness, WORD)
    assert not await is_stored(gateway, witness, THOUGHT)


@pytest.mark.parametrize("reasoning", [None, "visible", "sealed"])
async def test_full_with_reasoning_keeps_the_thought_whoever_may_see_it(
    witness: WitnessDisk, gateway: RunningGateway, worker: ScriptedWorker, reasoning: str | None
) -> None:
    worker.answers(saying(WORD, KEPT_THOUGHT))
    key = await gateway.issue_key(audit="full+reasoning", reasoning=reasoning)
    for stream in (True, False):
        response = await gateway.chat(key=key, stream=stream)
        assert (KEPT_THOUGHT.encode() in response.body) is (reasoning == "visible")
        found = await kept(gateway, response.request_id)
        assert found.answers["0"]["reasoning"] == f"{KEPT_THOUGHT} indeed."


async def test_full_with_reasoning_keeps_the_thoughts_of_both_tries(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(
        Answer((), (KEPT_THOUGHT,), finish="length"),
        Answer(("At last.",), ("More.",)),
    )
    key = await gateway.issue_key(audit="full+reasoning", salvage_tokens=64)
    response = await gateway.chat(key=key)
    assert response.message["content"] == "At last."
    answer = (await kept(gateway, response.request_id)).answers["0"]
    assert answer["content"] == "At last."
    assert answer["reasoning"].startswith(KEPT_THOUGHT)


async def test_full_with_reasoning_keeps_a_thought_that_was_cut_off(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(
        Answer((), (KEPT_THOUGHT, " and"), pace_seconds=0.05, breaks=Break(End.RESET, 3))
    )
    key = await gateway.issue_key(audit="full+reasoning")
    response = await gateway.chat(key=key)
    assert response.status == 502
    assert (
        (await kept(gateway, response.request_id))
        .answers["0"]["reasoning"]
        .startswith(KEPT_THOUGHT)
    )


async def test_a_secret_of_ours_is_kept_nowhere(
    witness: WitnessDisk, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    arguments = f'{{"key": "{SECRET}"}}'
    pieces = [SECRET[start : start + 5] for start in range(0, len(SECRET), 5)]
    call = ToolCall("look_up", ('{"key": "', *pieces, '"}'))
    worker.answers(
        replace(saying(WORD, SECRET), content=["Your key is ", *pieces, "."], tool_calls=(call,))
    )
    call_before = {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }
    messages = [
        *HELLO,
        {"role": "assistant", "content": f"It is {SECRET}", "tool_calls": [call_before]},
        {"role": "tool", "tool_call_id": "c1", "content": f"x{SECRET}"},
        {"role": "user", "content": [{"type": "text", "text": f"my key: {SECRET}!"}]},
    ]
    for level in ("full", "full+reasoning"):
        key = await gateway.issue_key(audit=level)
        for stream in (True, False):
            body = chat_body(messages=messages, tools=[PLAIN_TOOL], user=SECRET, stream=stream)
            headers = {"user-agent": SECRET, "x-request-id": SECRET}
            response = await gateway.request("POST", CHAT, body=body, key=key, headers=headers)
            assert response.status == 200, response.body
            found = await kept(gateway, response.request_id)
            assert found.messages[-1]["content"][0]["text"] == "my key: sk-qw-***!"
            wrong = await gateway.chat(key=key, model=SECRET)
            assert wrong.status == 404
            await gateway.audited(wrong.request_id)
    assert not await is_stored(gateway, witness, SECRET)
    assert not await is_stored(gateway, witness, SECRET[:20])
    assert not await is_stored(gateway, witness, SECRET[-20:])


async def test_of_a_stranger_nothing_but_its_coming_is_kept(
    witness: WitnessDisk, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = chat_body(messages=[{"role": "user", "content": STRANGER}])
    response = await gateway.request("POST", CHAT, body=body, key=SECRET)
    assert response.status == 401
    row = await gateway.audited(response.request_id)
    assert (row.level, row.content, row.key_id) == ("metadata", None, None)
    assert not await is_stored(gateway, witness, STRANGER)


REFUSED: list[tuple[Json, Json, int, bool]] = [
    ({"tools": [{"name": "no_other"}]}, {"tools": [PLAIN_TOOL]}, 403, True),
    ({"models": ["no-such"]}, {}, 404, True),
    ({}, {"model": "another"}, 404, True),
    ({}, {"max_tokens": 10_000_000}, 400, True),
    ({"max_messages": 1}, {"messages": [*HELLO, *HELLO]}, 400, True),
    ({"requests_per_minute": 1}, {}, 429, False),
    ({}, {"messages": "none"}, 400, False),
]


@pytest.mark.parametrize(("policy", "fields", "status", "is_kept"), REFUSED)
async def test_what_a_policy_refuses_is_kept_and_what_limits_refuse_is_not(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    policy: Json,
    fields: Json,
    status: int,
    is_kept: bool,
) -> None:
    key = await gateway.issue_key(**policy)
    response = await gateway.chat(key=key, **fields)
    if status == 429:
        response = await gateway.chat(key=key, **fields)
    assert response.status == status, response.body
    row = await gateway.audited(response.request_id)
    assert row.outcome == "refused"
    if is_kept:
        found = await kept(gateway, response.request_id)
        assert found.messages == fields.get("messages", HELLO)
        assert found.answers == {}
    else:
        assert row.content is None
