"""Visible events, as the client reads them: OpenAI's chunks, or one folded completion.

Nothing is serialised that is not sent, and a batch of events is one piece of bytes, so that a
client never receives half an event.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import orjson

from app.errors import ErrorBody
from app.protocol.events import (
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    Visible,
)
from app.protocol.folded_choice import FoldedChoice, seal_detail
from app.protocol.request import Json

KEEP_ALIVE = b": keep-alive\n\n"
DONE_EVENT = b"data: [DONE]\n\n"

# What of an answer may be shown as its thought: `reasoning`, and the name that SGLang and older
# clients know.
THOUGHT_NAME = "reasoning"
SECOND_THOUGHT_NAME = "reasoning_content"


def encode_progress(progress: Json) -> bytes:
    """A keep-alive that says more, on its one line."""
    return b": keep-alive " + orjson.dumps(progress) + b"\n\n"


def encode_error(body: ErrorBody) -> bytes:
    """The end of a stream that failed: SDKs raise on an `error` key, then see the end."""
    return b"data: " + orjson.dumps(body) + b"\n\n" + DONE_EVENT


def usage_body(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def about_body(about: Json | None) -> Json:
    return {} if about is None else {"gateway": about}


def with_about(chunk: bytes, about: Json | None) -> bytes:
    """A chunk's event, one field longer."""
    if about is None:
        return chunk
    return chunk.removesuffix(b"}\n\n") + b',"gateway":' + orjson.dumps(about) + b"}\n\n"


class Encoder(Protocol):
    """Visible events as a client's chunks. With `about`, the last one that has a choice says as
    `gateway` what the gateway found of the request."""

    about: Json | None

    def encode(self, events: Iterable[Visible]) -> bytes: ...

    def empty_delta(self) -> bytes:
        """A chunk that says nothing: the first one says that the answer has begun."""

    def end(self, usage: Usage, finishes: Mapping[int, str]) -> bytes:
        """The finish reasons by choice, the usage where it was asked for, and the end."""


class Folder(Protocol):
    """Visible events as one body, with what the gateway found of the request as `gateway`."""

    about: Json | None

    def feed(self, events: Iterable[Visible]) -> None: ...

    def body(
        self,
        completion_id: str,
        created: int,
        model: str,
        usage: Usage,
        finishes: Mapping[int, str],
    ) -> bytes: ...


class ChatEncoder:
    """`chat.completion.chunk` events. The role comes once, in a chunk of its own, before a
    choice's first delta: SDKs concatenate what comes twice. A thought that may be seen goes by
    `thought_names`."""

    def __init__(
        self,
        completion_id: str,
        created: int,
        model: str,
        *,
        n: int = 1,
        include_usage: bool,
        thought_names: Sequence[str] = (THOUGHT_NAME,),
    ) -> None:
        self.thought_names = thought_names
        self.about: Json | None = None
        self._envelope = (
            b'data: {"id":%s,"object":"chat.completion.chunk","created":%d,"model":%s,"choices":['
            % (orjson.dumps(completion_id), created, orjson.dumps(model))
        )
        self._include_usage = include_usage
        # With include_usage every chunk but the last carries a null, as OpenAI's do.
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._text_head = [
            self._envelope + b'{"index":%d,"delta":{"content":' % index for index in range(n)
        ]
        self._text_tail = b'},"logprobs":null,"finish_reason":null}' + self._tail
        self._roles = [False] * n

    def encode(self, events: Iterable[Visible]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            if not self._roles[event.choice]:
                parts.append(self._role(event.choice))
            if isinstance(event, TextDelta):
                parts.append(self._text_head[event.choice])
                parts.append(orjson.dumps(event.text))
                parts.append(self._text_tail)
            elif isinstance(event, ToolCallDelta):
                parts.append(self._chunk(event.choice, {"tool_calls": [_call(event)]}))
            elif isinstance(event, ReasoningDelta):
                delta: dict[str, object] = dict.fromkeys(self.thought_names, event.text)
                parts.append(self._chunk(event.choice, delta))
            else:
                parts.append(self._chunk(event.choice, {"reasoning_details": [seal_detail(event)]}))
        return b"".join(parts)

    def empty_delta(self) -> bytes:
        if not self._roles[0]:
            return self._role(0)
        return self._chunk(0, {"content": ""})

    def end(self, usage: Usage, finishes: Mapping[int, str]) -> bytes:
        parts: list[bytes] = []
        for choice, reason in sorted(finishes.items()):
            if not self._roles[choice]:
                parts.append(self._role(choice))
            parts.append(self._chunk(choice, {}, reason))
        if parts:
            parts[-1] = with_about(parts[-1], self.about)
        if self._include_usage:
            body = orjson.dumps(usage_body(usage))
            parts.append(self._envelope + b'],"usage":' + body + b"}\n\n")
        return b"".join(parts) + DONE_EVENT

    def _role(self, choice: int) -> bytes:
        self._roles[choice] = True
        return self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def _chunk(self, choice: int, delta: dict[str, object], reason: str | None = None) -> bytes:
        body = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._envelope + orjson.dumps(body) + self._tail


def _call(event: ToolCallDelta) -> dict[str, object]:
    if event.id is None:
        return {"index": event.index, "function": {"arguments": event.arguments}}
    return {
        "index": event.index,
        "id": event.id,
        "type": "function",
        "function": {"name": event.name, "arguments": event.arguments},
    }


class ChatFolder:
    """The events of a stream, folded into the `chat.completion` that they amount to."""

    def __init__(self, n: int = 1, thought_names: Sequence[str] = (THOUGHT_NAME,)) -> None:
        self.thought_names = thought_names
        self.about: Json | None = None
        self._choices = [FoldedChoice() for _ in range(n)]

    def feed(self, events: Iterable[Visible]) -> None:
        for event in events:
            self._choices[event.choice].feed(event)

    def body(
        self,
        completion_id: str,
        created: int,
        model: str,
        usage: Usage,
        finishes: Mapping[int, str],
    ) -> bytes:
        return orjson.dumps(
            {
                "id": completion_id,
                "object": "chat.completion",
                "created": created,
                "model": model,
                "choices": [
                    {
                        "index": index,
                        "message": choice.message(self.thought_names),
                        "logprobs": None,
                        "finish_reason": finishes.get(index),
                    }
                    for index, choice in enumerate(self._choices)
                ],
                "usage": usage_body(usage),
                **about_body(self.about),
            }
        )
