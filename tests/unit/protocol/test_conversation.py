"""Requests of one conversation have one key; others have others."""

import pytest

from app.protocol.conversation import CONVERSATION_BYTES, MAX_FIRST_BYTES, conversation_of
from app.protocol.prompt_text import prompt_text
from app.protocol.request import Json

SYSTEM: Json = {"role": "system", "content": "You are an agent."}
GREETING: Json = {"role": "assistant", "content": "What can I do?"}
USER: Json = {"role": "user", "content": "Find the defect."}
CALLS: Json = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}},
        {"id": "2", "type": "function", "function": {"name": "read", "arguments": "{}"}},
    ],
}
RESULTS: list[Json] = [
    {"role": "tool", "content": "text", "tool_call_id": each} for each in ("1", "2")
]
READ: list[Json] = [{"type": "function", "function": {"name": "read", "parameters": {}}}]


def key(
    *messages: Json,
    tools: list[Json] | None = None,
    tenant: str = "acme",
    hint: str | None = None,
) -> bytes:
    return conversation_of(
        prompt_text({"messages": list(messages), "tools": tools or []}), tenant, hint
    )


def saying(content: str) -> Json:
    return {"role": "user", "content": content}


def test_every_turn_has_the_same_key() -> None:
    first = key(SYSTEM, USER, tools=READ)
    assert len(first) == CONVERSATION_BYTES
    assert key(SYSTEM, USER, CALLS, *RESULTS, tools=READ) == first
    assert key(SYSTEM, USER, CALLS, *RESULTS, GREETING, saying("And?"), tools=READ) == first
    assert key(SYSTEM, GREETING, USER, tools=READ) == first


@pytest.mark.parametrize(
    "other",
    [
        key(USER),
        key(SYSTEM, saying("Write a test.")),
        key(saying("You are an agent."), USER),
        key(SYSTEM, USER, tools=READ),
        key(SYSTEM | {"content": "You are another agent."}, USER),
        key(SYSTEM, USER, tenant="other"),
        key(SYSTEM, USER, hint=""),
        key(SYSTEM, USER, hint="session 1"),
    ],
)
def test_another_beginning_or_tenant_has_another_key(other: bytes) -> None:
    assert other != key(SYSTEM, USER)


def test_a_hint_is_all_that_counts_under_its_tenant() -> None:
    hinted = key(SYSTEM, USER, hint="session 1")
    assert key(saying("A summary of what was said"), hint="session 1") == hinted
    assert key(SYSTEM, USER, hint="session 2") != hinted
    assert key(SYSTEM, USER, hint="session 1", tenant="other") != hinted
    assert len(key(USER, hint="\ud800" * 10_000)) == CONVERSATION_BYTES


def test_a_tenants_name_and_a_hint_are_told_apart_where_they_meet() -> None:
    assert key(USER, tenant="acme", hint="x1") != key(USER, tenant="acmex", hint="1")


def test_questions_about_one_long_document_belong_together() -> None:
    document = "A line of a document.\n" * 1_000
    assert len(document) > MAX_FIRST_BYTES
    assert key(saying(document + "Why?")) == key(saying(document + "How?"))
    template = "Answer in one sentence.\n"
    assert key(saying(template + "Why?")) != key(saying(template + "How?"))
