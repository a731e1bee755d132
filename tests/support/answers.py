"""What a scripted worker is told to say, and how it is to fail."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

LF, CRLF, CR = b"\n", b"\r\n", b"\r"


@dataclass(frozen=True)
class ToolCall:
    """`arguments` are the pieces in which a streaming worker sends them."""

    name: str
    arguments: Sequence[str]
    id: str = "call_0f3a"


class End(Enum):
    """How an answer breaks off."""

    RESET = "reset"  # a TCP reset, as after SIGKILL
    CLOSE = "close"  # an orderly end, nothing said
    HANG = "hang"  # nothing more, and the connection stays open
    ERROR = "error"  # an error event, then `[DONE]`: vLLM's way
    GARBAGE = "garbage"  # an event that is not JSON, and then silence


@dataclass(frozen=True)
class Break:
    """`after` so many events; 0 is between the status line and the first event, None before the
    status line."""

    how: End
    after: int | None = 0


@dataclass(frozen=True)
class Framing:
    """The same events, in other bytes."""

    line_end: bytes = LF
    write_bytes: int | None = None  # at most so many in one write; None: an event at a time
    at_once: bool = False  # the whole stream in one write
    comments: bool = False  # vLLM's `--sse-keep-alive-interval`
    done: bool = True  # `[DONE]` at the end


@dataclass(frozen=True)
class Answer:
    """One event for each piece of `reasoning`, `content` and the calls' arguments.

    `inline` leaves the thought in the text, with its closing tag, as a worker without a reasoning
    parser does. Token counts that are None are taken from the pieces.
    """

    content: Sequence[str] = ("Hello", " there.")
    reasoning: Sequence[str] = ("The user greets me.",)
    tool_calls: Sequence[ToolCall] = ()
    finish: str | None = "stop"
    inline: bool = False
    prefill_seconds: float = 0.0  # between the status line and the first event
    until: asyncio.Event | None = None  # for which the event after `until_after` others waits, too
    until_after: int = 0
    pace_seconds: float = 0.0  # between events
    framing: Framing = Framing()
    breaks: Break | None = None
    usage: bool = True
    prompt_tokens: int = 7
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    role_twice: bool = False
    extra_delta_fields: Sequence[tuple[str, object]] = ()  # on every delta with text


@dataclass(frozen=True)
class RawStream:
    """A 200 whose body is exactly this, then an orderly end."""

    body: bytes


@dataclass(frozen=True)
class Refusal:
    """An error before the stream."""

    status: int
    body: bytes
    content_type: str = "application/json"


Reply = Answer | RawStream | Refusal


def vllm_error(status: int, message: str, *, kind: str = "BadRequestError") -> Refusal:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return Refusal(status, json.dumps({"error": error}).encode())


def html_error(status: int) -> Refusal:
    page = f"<html><body><h1>{status}</h1><p>upstream at 10.1.2.3:8000</p></body></html>"
    return Refusal(status, page.encode(), "text/html")
