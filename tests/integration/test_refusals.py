"""What is refused: in OpenAI's shape, naming what is wrong, and before a worker hears of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.store.api_key import KeyDraft
from tests.support.gateway import CHAT, HELLO, RunningGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker

MADE_UP = "sk-qw-" + "a" * 49


# -- who


BAD_AUTHORIZATIONS = {
    "none": None,
    "empty": "",
    "no secret": "Bearer",
    "blank secret": "Bearer  ",
    "another scheme": "Basic dXNlcjpwYXNz",
    "garbage": "Bearer garbage",
    "made up": f"Bearer {MADE_UP}",
    "of OpenAI's form": "Bearer sk-proj-abcdefghijklmnopqrstuvwxyz",
    "long": "Bearer " + "x" * 8_000,
}


@pytest.mark.parametrize("name", BAD_AUTHORIZATIONS)
async def test_no_key_means_no_byte_of_the_body_was_read(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """The body is never sent: whoever waited for it would hang."""
    value = BAD_AUTHORIZATIONS[name]
    lines = ["content-length: 30000000"] + ([] if value is None else [f"authorization: {value}"])
    head = "\r\n".join([f"POST {CHAT} HTTP/1.1", "host: gateway", *lines, "", ""])
    async with gateway.raw() as client:
        await client.send(head.encode())
        answer = await client.head()
        error = (await client.body(answer))["error"]
        assert answer.status == 401
        assert error["code"] == "invalid_api_key"
        assert error["type"] == "invalid_request_error"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["connection"] == "close"
        assert await client.at_end()
    assert worker.requests == []
    row = await gateway.audited(answer.headers["x-request-id"])
    assert (row.outcome, row.status, row.error_code) == ("refused", 401, "invalid_api_key")
    assert (row.key_id, row.body_bytes) == (None, 0)


async def test_a_client_that_waits_for_100_is_refused_before_it_sends(
    gateway: RunningGateway,
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\ncontent-length: 9\r\n"
    async with gateway.raw() as client:
        await client.send(head.encode() + b"\r\n")
        assert (await client.head()).status == 401


async def test_revoked_disabled_and_expired_keys_are_refused(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    draft = KeyDraft(name="short-lived")
    revoked = await gateway.keys.create(draft)
    await gateway.keys.revoke(revoked.key.id)
    disabled = await gateway.keys.create(draft.model_copy(update={"enabled": False}))
    soon = datetime.now(UTC) + timedelta(milliseconds=150)
    expiring = await gateway.keys.create(draft.model_copy(update={"expires_at": soon}))
    for issued in (revoked, disabled):
        response = await gateway.chat(key=issued.secret)
        assert (response.status, response.error["code"]) == (401, "invalid_api_key")
    while datetime.now(UTC) < soon:
        response = await gateway.chat(key=expiring.secret)
    response = await gateway.chat(key=expiring.secret)
    assert (response.status, response.error["code"]) == (401, "invalid_api_key")


async def test_two_authorizations_are_refused(gateway: RunningGateway) -> None:
    async with gateway.raw() as client:
        line = f"authorization: Bearer {MADE_UP}"
        await client.send(request_bytes(CHAT, gateway.key, chat_body(), line))
        assert (await client.head()).status == 401


@pytest.mark.parametrize("path", [f"{CHAT}?api_key=", f"{CHAT}?key="])
async def test_a_key_in_the_query_does_not_count(path: str, gateway: RunningGateway) -> None:
    async with gateway.raw() as client:
        await client.send(request_bytes(path + gateway.key, None, chat_body()))
        assert (await client.head()).status == 401


async def test_a_key_in_a_trailer_does_not_count(gateway: RunningGateway) -> None:
    body = chat_body()
    lines = [f"POST {CHAT} HTTP/1.1", "host: gateway", "transfer-encoding: chunked"]
    lines += ["trailer: authorization", "content-type: application/json", "", ""]
    trailer = f"authorization: Bearer {gateway.key}\r\n\r\n"
    async with gateway.raw() as client:
        head = "\r\n".join(lines).encode()
        await client.send(head + b"%x\r\n%b\r\n0\r\n" % (len(body), body) + trailer.encode())
        assert (await client.head()).status == 401


# -- which model


@pytest.mark.parametrize(
    "model",
    ["gpt-4", "Qwythos", "qwythos ", "qwythos\n", "openai/qwythos", "../../etc", "m" * 100_000],
)
async def test_an_unknown_model_is_not_found(
    model: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await gateway.chat(model=model)
    assert response.status == 404
    assert response.error["code"] == "model_not_found"
    assert response.error["param"] == "model"
    assert model[:64] in response.error["message"]
    assert len(response.error["message"]) < 300
    assert worker.requests == []


async def test_a_model_that_the_key_may_not_use_is_not_found_either(
    gateway: RunningGateway,
) -> None:
    key = await gateway.issue_key(models=["empero-ai/Qwythos-9B-Claude-Mythos-5-1M"])
    response = await gateway.chat(key=key)
    assert (response.status, response.error["code"]) == (404, "model_not_found")
    allowed = await gateway.chat(key=key, model="empero-ai/Qwythos-9B-Claude-Mythos-5-1M")
    assert allowed.status == 200


# -- what


NOT_JSON = {
    "nothing": b"",
    "text": b"hello",
    "cut": chat_body()[:-1],
    "two documents": chat_body() * 2,
    "trailing comma": b'{"model": "qwythos",}',
    "a comment": b'{"model": "qwythos" /* x */}',
    "NaN": b'{"model": "qwythos", "messages": [], "temperature": NaN}',
    "Infinity": b'{"model": "qwythos", "messages": [], "temperature": Infinity}',
    "a lone surrogate": rb'{"model": "\ud800"}',
    "a raw newline in a string": b'{"model": "qwy\nthos"}',
    "broken UTF-8": b'{"model": "\xff\xfe"}',
    "an overlong form": b'{"model": "\xc0\xaf"}',
    "an array": b"[]",
    "a string": b'"hello"',
    "a number": b"1",
    "null": b"null",
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_what_is_not_a_json_object_is_refused(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await gateway.request("POST", CHAT, body=NOT_JSON[name])
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert response.error["code"] == "invalid_json"
    assert worker.requests == []


ASSISTANT = {"role": "assistant", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f"}}
NESTED: dict[str, Any] = {}
for _ in range(100):
    NESTED = {"properties": {"a": NESTED}}

DEEP_ARGUMENTS = '{"a":' * 1_000 + "1" + "}" * 1_000

# The field at fault, and a request in which it is.
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("model", {"model": None}),
    ("model", {"model": ""}),
    ("model", {"model": 3}),
    ("messages", {"messages": None}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "Hello"}),
    ("messages", {"messages": {"role": "user", "content": "x"}}),
    ("messages", {"messages": [SYSTEM]}),
    ("messages", {"messages": [ASSISTANT]}),
    ("messages", {"messages": HELLO * 10_001}),
    ("messages[0]", {"messages": [None]}),
    ("messages[0].role", {"messages": [{"content": "x"}]}),
    ("messages[0].role", {"messages": [{"role": "function", "content": "x"}]}),
    ("messages[0].role", {"messages": [{"role": 7, "content": "x"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": None}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
    ("messages[0].content[0]", {"messages": [{"role": "user", "content": [["x"]]}]}),
    (
        "messages[0].content[0].type",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
                    ],
                }
            ]
        },
    ),
    ("messages[1].tool_call_id", {"messages": [*HELLO, {"role": "tool", "content": "x"}]}),
    ("stream", {"stream": "yes"}),
    ("stream", {"stream": 1}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": -1}),
    ("max_tokens", {"max_tokens": "5"}),
    ("max_tokens", {"max_tokens": 1.0}),
    ("max_tokens", {"max_tokens": True}),
    ("max_completion_tokens", {"max_completion_tokens": 0}),
    ("n", {"n": 0}),
    ("n", {"n": -1}),
    ("n", {"n": 5}),
    ("n", {"n": 1_000_000}),
    ("temperature", {"temperature": -1}),
    ("temperature", {"temperature": 2.1}),
    ("temperature", {"temperature": 1e308}),
    ("temperature", {"temperature": "0.5"}),
    ("top_p", {"top_p": 0}),
    ("top_p", {"top_p": 1.1}),
    ("top_k", {"top_k": -2}),
    ("top_k", {"top_k": 1_000_000_000}),
    ("min_p", {"min_p": 2}),
    ("presence_penalty", {"presence_penalty": 1e9}),
    ("frequency_penalty", {"frequency_penalty": -3}),
    ("repetition_penalty", {"repetition_penalty": 0}),
    ("seed", {"seed": 2**63}),
    ("seed", {"seed": "1"}),
    ("stop", {"stop": ["a", "b", "c", "d", "e"]}),
    ("stop", {"stop": [""]}),
    ("stop", {"stop": ["x" * 1_000]}),
    ("user", {"user": "x" * 513}),
    ("metadata.a", {"metadata": {"a": "x" * 513}}),
    ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {}}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
    ("tools", {"tools": [TOOL, TOOL]}),
    ("tools", {"tools": [TOOL] * 129}),
    ("tool_choice", {"tool_choice": "required"}),
    (
        "tool_choice",
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
    ),
    ("tool_choice.function", {"tools": [TOOL], "tool_choice": {"type": "function"}}),
    (
        "tool_choice.allowed_tools",
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}},
    ),
    (
        "tool_choice.allowed_tools.tools[0].function.name",
        {
            "tools": [TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "g"}}],
                },
            },
        },
    ),
    (
        "messages[1].reasoning_details[0].data",
        {
            "messages": [
                *HELLO,
                {"role": "assistant", "reasoning_details": [{"type": "reasoning.encrypted"}]},
            ]
        },
    ),
    (
        "messages[1].tool_calls",
        {
            "messages": [
                *HELLO,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "1", "function": {"name": "f", "arguments": DEEP_ARGUMENTS}}
                    ],
                },
            ]
        },
    ),
    (
        "response_format.json_schema.schema",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}},
    ),
    (
        "response_format",
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": NESTED},
            }
        },
    ),
    ("__class__", {"__class__": "x"}),
    ("temperatur", {"temperatur": 1}),
]


@pytest.mark.parametrize(
    ("param", "fields"), WRONG, ids=[f"{index}-{wrong[0]}" for index, wrong in enumerate(WRONG)]
)
async def test_what_is_wrong_is_named(
    param: str, fields: dict[str, Any], gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await gateway.chat(**fields)
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert response.error["param"] == param
    assert response.error["code"]
    assert worker.requests == []


async def test_unknown_field_is_refused_by_name(gateway: RunningGateway) -> None:
    response = await gateway.chat(temprature=0.5)
    assert response.error == {
        "message": "Unrecognized request argument supplied: temprature.",
        "type": "invalid_request_error",
        "param": "temprature",
        "code": "unknown_parameter",
    }


async def test_an_error_tells_back_little_of_what_was_sent(gateway: RunningGateway) -> None:
    secret = "my password is hunter2 " * 100
    name = "f" * 10_000
    for fields in (
        {"messages": [{"role": "user", "content": [{"type": secret}]}]},
        {name: 1},
        {"tool_choice": secret, "tools": [TOOL]},
    ):
        response = await gateway.chat(**fields)
        assert response.status == 400
        assert "hunter2" not in response.error["message"]
        assert len(response.body) < 600


# -- where


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/embeddings", 404, "not_found"),
        ("POST", f"{CHAT}/", 404, "not_found"),
        ("POST", "//v1//chat/completions", 404, "not_found"),
        ("POST", "/V1/chat/completions", 404, "not_found"),
        ("GET", "/v1/%2e%2e/metrics", 404, "not_found"),
        ("GET", "/tokenize", 404, "not_found"),
        ("GET", "/v1/models/gpt-4", 404, "model_not_found"),
    ],
)
async def test_what_is_not_there_is_refused_in_the_same_shape(
    method: str, path: str, status: int, code: str, gateway: RunningGateway
) -> None:
    async with gateway.raw() as client:  # which sends the path as it is
        await client.send(request_bytes(path, gateway.key, chat_body(), method=method))
        head = await client.head()
        body = await client.body(head)
    assert (head.status, body["error"]["code"]) == (status, code)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert head.headers["content-type"] == "application/json"
    assert head.headers["x-request-id"].startswith("req_")
    if status == 405:
        assert head.headers["allow"]


async def test_the_body_of_an_error_is_json_whatever_is_accepted(gateway: RunningGateway) -> None:
    headers = {"accept": "text/html", "accept-encoding": "gzip, br"}
    response = await gateway.request("GET", "/nowhere", headers=headers)
    assert json.loads(response.body)["error"]["code"] == "not_found"
    assert "content-encoding" not in response.headers
