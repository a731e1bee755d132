"""A scenario's answer in the bytes of vLLM 0.32: role, thought, answer, end, usage."""

from collections.abc import Iterator

import orjson

from bench.scenarios import MODEL, THOUGHT, WORD, Scenario

PROMPT_TOKENS = 42
ENVELOPE = {
    "id": "chatcmpl-8f0c6a52d1e94b7f",
    "object": "chat.completion.chunk",
    "created": 1_790_000_000,
    "model": MODEL,
}
HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"date: Thu, 01 Oct 2026 00:00:00 GMT\r\n"
    b"server: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
END_OF_CHUNKS = b"0\r\n\r\n"


def answer_writes(scenario: Scenario) -> list[bytes]:
    """What the worker writes: one piece, or one for each event."""
    chunks = [_http_chunk(event) for event in _events(scenario)]
    last = b"".join([*chunks[scenario.events - 1 :], END_OF_CHUNKS])
    writes = [*chunks[: scenario.events - 1], last]
    writes[0] = HEAD + writes[0]
    return writes if scenario.by_event else [b"".join(writes)]


def _events(scenario: Scenario) -> Iterator[bytes]:
    yield _event(_choice({"role": "assistant", "content": ""}) | {"prompt_token_ids": None})
    yield from [_event(_choice({"reasoning": THOUGHT}))] * scenario.thought_pieces
    yield from [_event(_choice({"content": WORD}))] * scenario.answer_pieces
    yield _event(_choice({"content": ""}, "stop"))
    yield _event({"choices": [], "usage": _usage(scenario)})
    yield b"data: [DONE]\n\n"


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, object]:
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": reason,
        "token_ids": None,
    }
    return {"choices": [choice if reason is None else choice | {"stop_reason": None}]}


def _usage(scenario: Scenario) -> dict[str, object]:
    completion_tokens = scenario.thought_pieces + scenario.answer_pieces
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
        "completion_tokens": completion_tokens,
        "completion_tokens_details": {"reasoning_tokens": scenario.thought_pieces},
    }


def _event(fields: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(ENVELOPE | fields) + b"\n\n"


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
