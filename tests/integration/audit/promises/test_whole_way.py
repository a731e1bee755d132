"""From the client's bytes to what `gateway audit show` prints: the same text, odd or long."""

import asyncio
import json
import os
import random
from typing import Any

import pytest

from app.settings import MIB
from tests.support.answers import Answer, RawStream
from tests.support.gateway import CHAT, HELLO, PEPPER, Json, RunningGateway, StartGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import GATEWAY

BODY_BYTES = 32 * MIB
ODD = "a\0b\x01\x1b[2J\x7f\u2028\u202e\ufffd\U0001f600\ufffe'\"\\ \\u0000 \\ud800"
LONE = ["\ud83d", "\ude00"]  # the halves of one character, each by itself


async def shown(database_url: str, request_id: str) -> Any:
    """What the command prints of a request."""
    process = await asyncio.create_subprocess_exec(
        str(GATEWAY), "audit", "show", request_id, "--json",
        env={
            "PATH": os.environ["PATH"],
            "GATEWAY_DATABASE_URL": database_url,
            "GATEWAY_KEY_PEPPER": PEPPER,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.isascii()
    return json.loads(out)


async def check_shown(
    gateway: RunningGateway, database_url: str, request_id: str, asked: str, answer: str
) -> None:
    row = await gateway.audited(request_id)
    assert row.outcome == "completed"
    exchange = (await shown(database_url, request_id))["exchange"]
    said = [*exchange["messages"], exchange["answers"]["0"]]
    assert [one["state"] for one in said] == ["kept", "kept"]
    # Compared first: what differs in 32 MiB is not to be shown.
    same = [one["body"]["content"] for one in said] == [asked, answer]
    assert same


@pytest.mark.parametrize("stream", [False, True])
async def test_controls_and_odd_characters_come_back_as_they_were(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker, database_url: str
) -> None:
    worker.answers(Answer([f"Odd: {ODD[:5]}", ODD[5:]]))
    asked = [{"role": "user", "content": ODD}]
    response = await gateway.chat(messages=asked, stream=stream)
    said = response.stream.text() if stream else response.message["content"]
    assert "\0" in said
    await check_shown(gateway, database_url, response.request_id, ODD, said)


async def test_the_largest_body_comes_back_as_it_was(
    start_gateway: StartGateway, worker: ScriptedWorker, database_url: str
) -> None:
    worker.max_model_len = 100_000_000
    gateway = await start_gateway(worker, max_body_bytes=BODY_BYTES, audit_write_seconds=60)
    letters = "".join(random.Random(3).choices("abcdefghijklmnop \0é\U0001f600", k=100_000))
    room = BODY_BYTES - len(chat_body(messages=[{"role": "user", "content": ""}]))
    content = letters * (room // len(json.dumps(letters)))
    body = chat_body(messages=[{"role": "user", "content": content}])
    assert 0.9 * BODY_BYTES < len(body) <= BODY_BYTES
    response = await gateway.request("POST", CHAT, body=body)
    assert response.status == 200, response.body
    answer = response.message["content"]
    await check_shown(gateway, database_url, response.request_id, content, answer)


def events_with_lone_surrogates() -> bytes:
    """As escapes, which is the only way that JSON has."""
    deltas = [{"role": "assistant"}, *({"content": piece} for piece in ("Half ", *LONE, " said."))]
    choices: list[Json] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = (json.dumps({"object": "chat.completion.chunk", "choices": [one]}) for one in choices)
    return b"".join(f"data: {event}\n\n".encode() for event in events) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("stream", [False, True])
async def test_lone_surrogates_of_a_worker_are_a_broken_answer_and_recorded_as_one(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker, database_url: str
) -> None:
    worker.answers(RawStream(events_with_lone_surrogates()))
    response = await gateway.chat(stream=stream)
    assert response.status == 502
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status) == ("failed", 502)
    exchange = (await shown(database_url, response.request_id))["exchange"]
    assert [one["body"] for one in exchange["messages"]] == HELLO
    assert exchange["answers"] == {}
