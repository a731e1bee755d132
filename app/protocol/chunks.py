"""A worker's JSON chunk, as events. The dialects of the engines meet here and end here.

vLLM calls the thought `reasoning`, SGLang and Transformers `reasoning_content`; usage comes in a
chunk of its own, or on the last one; errors are objects or strings. A field that is not named here
goes no further.
"""

from typing import Any

import orjson

from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    StreamFailed,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)

# An end that we do not know is not taken for the model's own: the answer may have been cut.
UNKNOWN_REASON = "length"

# What OpenAI's SDKs know. vLLM also says `repetition` (it stopped a loop) and `abort`.
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "repetition": "length",
}


class MalformedChunk(ValueError):
    """The worker sent what is not a chat completion chunk."""


def decode_chunk(payload: bytes) -> list[Event]:
    """The events of one `data:` payload, in order. Raises MalformedChunk."""
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedChunk(str(error)) from None
    if not isinstance(chunk, dict):
        raise MalformedChunk("not an object")
    events: list[Event] = []
    try:
        if (failure := chunk.get("error")) is not None:
            events.append(_failure(failure))
        elif chunk.get("object") == "error":  # SGLang's flat form
            events.append(_failure(chunk))
        for choice in chunk.get("choices") or ():
            _decode_choice(choice, events)
        if (usage := chunk.get("usage")) is not None:
            events.append(_usage(usage))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedChunk(f"{type(error).__name__} in a chunk") from None
    return events


def _decode_choice(choice: dict[str, Any], events: list[Event]) -> None:
    index: int = choice["index"]
    if not isinstance(index, int):
        raise TypeError
    delta = choice.get("delta")
    if delta:
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        if reasoning:
            events.append(ReasoningDelta(index, _text(reasoning)))
        content = delta.get("content")
        if content:
            events.append(TextDelta(index, _text(content)))
        for call in delta.get("tool_calls") or ():
            events.append(_tool_call(index, call))
    reason = choice.get("finish_reason")
    if reason == "abort":
        events.append(StreamFailed("the engine aborted the request", "abort"))
    elif reason is not None:
        events.append(Finish(index, _FINISH_REASONS.get(reason, UNKNOWN_REASON)))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _tool_call(choice: int, call: dict[str, Any]) -> ToolCallDelta:
    function = call.get("function") or {}
    return ToolCallDelta(
        choice,
        int(call.get("index") or 0),
        _text(function.get("arguments") or ""),
        id=_text(call.get("id") or "") or None,
        name=_text(function.get("name") or "") or None,
    )


def _usage(usage: dict[str, Any]) -> UsageReport:
    details = usage.get("completion_tokens_details") or {}
    reasoning = details.get("reasoning_tokens", usage.get("reasoning_tokens"))
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return UsageReport(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        reasoning_tokens=None if reasoning is None else _count(reasoning),
        cached_tokens=_count(cached),
    )


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _failure(error: object) -> StreamFailed:
    if isinstance(error, dict):
        code = error.get("code")
        return StreamFailed(
            str(error.get("message") or "no message"), None if code is None else str(code)
        )
    return StreamFailed(str(error))
