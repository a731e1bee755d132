"""What the canary test does to a gateway: everything that makes it talk."""

import json
from collections.abc import Mapping
from typing import Any

from tests.operations.canaries import SECRETS, TEXTS
from tests.operations.watched_gateway import Watched
from tests.support.answers import Answer, Break, End, RawStream, Refusal, Reply, ToolCall
from tests.support.gateway import CHAT
from tests.support.scripted_worker import ScriptedWorker

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": TEXTS["tool"],
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}
THINKING = (TEXTS["thought"],)
ANSWER = Answer(("It is ", TEXTS["answer"], "."), THINKING)
CALL = ToolCall("look_up", (json.dumps({"what": TEXTS["arguments"]}),))
# What a worker quotes of a request that it fails on, and of the key that it was asked with.
QUOTED = f"Bearer {SECRETS['worker_key']} said: {TEXTS['prompt']} {TEXTS['system']}"
TRACEBACK = f'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: {QUOTED}'


def _error_event(message: str) -> RawStream:
    event = {"error": {"message": message, "type": "InternalServerError", "code": 500}}
    return RawStream(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())


FAULTS: Mapping[str, Reply] = {
    "a 400 that quotes": Refusal(400, json.dumps({"error": {"message": QUOTED}}).encode()),
    "a 500 with a traceback": Refusal(500, TRACEBACK.encode(), "text/plain"),
    "a 503 that quotes": Refusal(503, QUOTED.encode(), "text/plain"),
    "a header that is none": Refusal(200, b"", f"text/plain\r\n{QUOTED}: x\r\nbad header"),
    "an error event": _error_event(QUOTED),
    "an error event of memory": _error_event(f"CUDA out of memory. {QUOTED}"),
    "no JSON": RawStream(f"data: {QUOTED}\n\n".encode()),
    "no chunk": RawStream(f"data: {json.dumps({'choices': QUOTED})}\n\n".encode()),
    "an end without a reason": RawStream(b"data: [DONE]\n\n"),
    "a reset": Answer(ANSWER.content, THINKING, breaks=Break(End.RESET, None)),
    "a reset within": Answer(ANSWER.content, THINKING, breaks=Break(End.RESET, 3)),
    "silence": Answer(ANSWER.content, THINKING, breaks=Break(End.HANG, 2)),
}


def asked(**fields: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": TEXTS["system"]},
        {"role": "user", "content": TEXTS["prompt"]},
    ]
    return {
        "model": "qwythos",
        "messages": messages,
        "user": TEXTS["user"],
        "tools": [TOOL],
    } | fields


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def good_requests(gateway: Watched, worker: ScriptedWorker, key: str) -> None:
    worker.answers(ANSWER)
    for stream in (False, True):
        where = "good, streamed" if stream else "good"
        status, body = await gateway.ask(
            where,
            "POST",
            f"{CHAT}?note={TEXTS['query']}&api_key={SECRETS['unknown_key']}",
            headers=bearer(key) | {"user-agent": f"tool/{key} {SECRETS['admin_token']}"},
            json=asked(stream=stream),
        )
        assert status == 200, body
        assert stream or TEXTS["answer"].encode() in body
    worker.answers(Answer((), THINKING, (CALL,), "tool_calls"))
    status, body = await gateway.ask(
        "good, a call", "POST", CHAT, headers=bearer(key), json=asked()
    )
    assert TEXTS["arguments"].encode() in body
    # A secret that is pasted into a prompt, and said again by the model.
    worker.answers(Answer((SECRETS["admin_token"][:12], SECRETS["admin_token"][12:], "!"), ()))
    pasted = f"Is {SECRETS['admin_token']} right? And {key}, {SECRETS['worker_key']}?"
    await gateway.ask(
        "client's own: pasted",
        "POST",
        CHAT,
        headers=bearer(key),
        json=asked(messages=[{"role": "user", "content": pasted}]),
    )


async def refused_requests(gateway: Watched, key: str) -> None:
    wrong = {
        "no key": {},
        "an unknown key": bearer(SECRETS["unknown_key"]),
        "a malformed key": bearer(SECRETS["malformed_key"]),
        "another service's key": bearer(SECRETS["another_services_key"]),
        "another scheme": {"authorization": f"Basic {SECRETS['basic_credentials']}"},
        "another header": {"x-api-key": SECRETS["unknown_key"]},
    }
    for where, headers in wrong.items():
        status, _ = await gateway.ask(where, "POST", CHAT, headers=headers, json=asked())
        assert status == 401, where
    for where, body in {
        "no JSON": TEXTS["prompt"].encode(),
        "no messages": json.dumps({"model": "qwythos", "prompt": TEXTS["prompt"]}).encode(),
        "a wrong type": json.dumps(asked(temperature=TEXTS["user"])).encode(),
        "an unknown role": json.dumps(
            asked(messages=[{"role": "nobody", "content": TEXTS["prompt"]}])
        ).encode(),
    }.items():
        headers = bearer(key) | {"content-type": "application/json"}
        status, _ = await gateway.ask(where, "POST", CHAT, headers=headers, body=body)
        assert status == 400, where
    await gateway.ask(
        "client's own: a key as a model",
        "POST",
        CHAT,
        headers=bearer(key),
        json=asked(model=SECRETS["unknown_key"]),
    )
    # Names and claims are cut at 128 characters.
    await gateway.ask(
        "client's own: half a secret",
        "POST",
        CHAT,
        headers=bearer(key)
        | {
            "user-agent": "x" * 110 + SECRETS["admin_token"],
            "x-request-id": "x" * 110 + SECRETS["key_pepper"],
        },
        json=asked(model="x" * 110 + SECRETS["key_pepper"]),
    )
    await gateway.ask("an unknown route", "GET", f"/v1/files?key={key}", headers=bearer(key))
    await gateway.say("no HTTP", f"GET / {key}\r\nAuthorization: {key}\r\n\r\n".encode())
    for path in ("/admin/v1/keys", "/admin/v1/workers"):
        await gateway.ask("admin, refused", "GET", path, headers=bearer(SECRETS["unknown_key"]))


async def requests_that_workers_fail(gateway: Watched, worker: ScriptedWorker, key: str) -> None:
    for where, reply in FAULTS.items():
        worker.answers(reply)
        stream = len(where) % 2 == 0  # of both, some
        await gateway.ask(
            f"fault: {where}", "POST", CHAT, headers=bearer(key), json=asked(stream=stream)
        )
    worker.answers(ANSWER)


async def looked_at(gateway: Watched) -> None:
    """All that is there to be read."""
    for path in ("/metrics", "/openapi.json", "/docs", "/healthz", "/readyz"):
        status, _ = await gateway.ask(path, "GET", path)
        assert status == 200, path
    admin = bearer(SECRETS["admin_token"])
    for path in ("keys", "plans", "tenants", "workers", "audit"):
        status, body = await gateway.ask(path, "GET", f"/admin/v1/{path}", headers=admin)
        assert status == 200, body
