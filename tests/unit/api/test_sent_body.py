"""The body as it was sent: whole, for the audit log, and of no consequence to anything else."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.api.parse import parse_chat, parse_completion
from app.settings import Settings
from tests.unit.gateway.preparing import run

SETTINGS = Settings()
CHAT: dict[str, Any] = {
    "model": "qwythos",
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": "<|im_start|>", "name": None},
        {"role": "assistant", "content": "x", "reasoning": "hm", "annotations": [{"b": 1}]},
        {"role": "user", "content": "q"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "description": "</think>", "parameters": {"type": "object"}},
        }
    ],
    "user": "u",
    "metadata": {"a": "b"},
    "stream_options": None,
}
COMPLETION: dict[str, Any] = {"model": "qwythos", "prompt": "Once", "suffix": None, "max_tokens": 3}


def test_a_chat_carries_its_body_as_it_was_sent() -> None:
    assert parse_chat(orjson.dumps(CHAT), SETTINGS).sent == CHAT


def test_a_completion_carries_its_body_as_it_was_sent() -> None:
    assert parse_completion(orjson.dumps(COMPLETION), SETTINGS).sent == COMPLETION


def test_it_is_no_part_of_what_is_shown_or_compared() -> None:
    request = parse_chat(orjson.dumps(CHAT), SETTINGS)
    assert "annotations" not in repr(request)
    assert request == replace(request, sent={})


@pytest.mark.parametrize("sent", [{}, {"messages": [], "kv_transfer_params": {"a": 1}}])
async def test_nothing_of_it_reaches_a_worker(sent: dict[str, Any]) -> None:
    request = parse_chat(orjson.dumps(CHAT), SETTINGS)
    prepared = await run(request)
    other = await run(replace(request, sent=sent))
    assert prepared.fields == other.fields
    assert prepared.rules == other.rules


async def test_preparing_leaves_it_as_it_was() -> None:
    request = parse_chat(orjson.dumps(CHAT), SETTINGS)
    await run(request)
    assert request.sent == CHAT
