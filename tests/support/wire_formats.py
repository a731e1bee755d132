"""Answers as the engines write them: vLLM 0.32, SGLang, `transformers serve` 5.19.

Each differs in the name of the thought, in where usage stands, and in how the stream ends.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.settings import Engine
from tests.support.answers import Answer, ToolCall

Json = dict[str, Any]

CREATED = 1_790_000_000
REASONING_FIELD = {
    Engine.VLLM: "reasoning",
    Engine.SGLANG: "reasoning_content",
    Engine.TRANSFORMERS: "reasoning_content",
    Engine.LLAMACPP: "reasoning_content",
    Engine.OPENAI: "reasoning_content",
}


def usage_of(answer: Answer, engine: Engine, choices: int = 1) -> Json:
    pieces = [piece for call in answer.tool_calls for piece in call.arguments]
    thought = len(answer.reasoning) if answer.reasoning_tokens is None else answer.reasoning_tokens
    completion = answer.completion_tokens
    if completion is None:
        completion = (len(answer.reasoning) + len(answer.content) + len(pieces)) * choices
    usage: Json = {
        "prompt_tokens": answer.prompt_tokens,
        "total_tokens": answer.prompt_tokens + completion,
        "completion_tokens": completion,
    }
    if engine is Engine.SGLANG:
        usage["reasoning_tokens"] = thought
    elif engine is Engine.VLLM and not answer.inline:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    if answer.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cached_tokens}
    return usage


def stream_payloads(answer: Answer, request: Json, engine: Engine, request_id: str) -> list[str]:
    """The JSON of each event, in order, without `[DONE]`."""
    envelope = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": request.get("model"),
    }
    options = request.get("stream_options") or {}
    choices = range(request.get("n") or 1)
    usage = usage_of(answer, engine, len(choices))
    asked = bool(options.get("include_usage")) and answer.usage
    continuous = asked and bool(options.get("continuous_usage_stats"))
    chunks: list[Json] = []
    for delta in _deltas(answer, engine):
        chunks += [_chunk(envelope, _choice(index, delta, engine)) for index in choices]
    if answer.finish is not None:
        ends = [_finish(index, answer, engine) for index in choices]
        chunks += [_chunk(envelope, end) for end in ends]
    if engine is Engine.TRANSFORMERS:  # asked or not, and in no chunk of its own
        chunks[-1]["usage"] = usage
    elif asked:
        if continuous:
            chunks = [chunk | {"usage": usage} for chunk in chunks]
        chunks.append(envelope | {"choices": [], "usage": usage})
    return [json.dumps(chunk, ensure_ascii=False) for chunk in chunks]


def whole_completion(answer: Answer, request: Json, request_id: str) -> Json:
    """What vLLM says without `stream`: nothing that the gateway should ever ask for."""
    message = {
        "role": "assistant",
        "content": "".join(answer.content) or None,
        "reasoning": "".join(answer.reasoning) or None,
        "tool_calls": [
            _call(0, call) | {"function": {"name": call.name, "arguments": "".join(call.arguments)}}
            for call in answer.tool_calls
        ],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.get("model"),
        "choices": [choice | {"stop_reason": None, "token_ids": None}],
        "usage": usage_of(answer, Engine.VLLM),
        "kv_transfer_params": None,
    }


def error_event(engine: Engine) -> str:
    message = "EngineCore died at /opt/venv/engine.py: CUDA out of memory"
    if engine is Engine.TRANSFORMERS:
        return json.dumps({"error": message})
    detail = {"message": message, "type": "InternalServerError", "param": None, "code": 500}
    return json.dumps({"error": detail})


def _deltas(answer: Answer, engine: Engine) -> Iterator[Json]:
    role = {"role": "assistant", "content": ""}
    yield role
    if answer.role_twice:
        yield role
    extra = dict(answer.extra_delta_fields)
    for piece in answer.reasoning:
        yield {("content" if answer.inline else REASONING_FIELD[engine]): piece} | extra
    if answer.inline and answer.finish != "length":
        yield {"content": "</think>\n\n"}
    for piece in answer.content:
        yield {"content": piece} | extra
    for index, call in enumerate(answer.tool_calls):
        if engine is Engine.TRANSFORMERS:  # a call at a time
            arguments = "".join(call.arguments)
            function = {"name": call.name, "arguments": arguments}
            yield {"tool_calls": [_call(index, call) | {"function": function}]}
            continue
        yield {"tool_calls": [_call(index, call)]}
        for piece in call.arguments:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _call(index: int, call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": ""}
    return {"index": index, "id": call.id, "type": "function", "function": function}


def _choice(index: int, delta: Mapping[str, object], engine: Engine) -> Json:
    choice: Json = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return choice | {"token_ids": None} if engine is Engine.VLLM else choice


def _finish(index: int, answer: Answer, engine: Engine) -> Json:
    reason = {"stop_reason" if engine is Engine.VLLM else "matched_stop": None}
    return _choice(index, {"content": ""}, engine) | {"finish_reason": answer.finish} | reason


def _chunk(envelope: Json, choice: Json) -> Json:
    return envelope | {"choices": [choice]}
