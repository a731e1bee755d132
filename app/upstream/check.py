"""Does a worker split the thought off as its settings say? Asked once, before its first request.

A worker started without its reasoning parser, with another template, or declared wrongly would show
thoughts as answers. Two short answers show it; each replica of the gateway asks each worker for
them, and again whenever the worker had been away.
"""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from app.errors import GatewayError, InvalidRequest
from app.protocol.chunks import MalformedChunk, decode_chunk
from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    StreamFailed,
    TextDelta,
    ToolCallDelta,
)
from app.protocol.request import Json
from app.protocol.sse import DONE, SSEDecoder, SSEError
from app.protocol.tags import CALL_TAG, CLOSE_TAG, Kind, tags
from app.settings import Engine, Separation
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.engines import rid_of, worker_body

QUESTION = "What is two plus two?"
TOOL_QUESTION = "What is the weather in Paris?"
# In these words, because the tiny model of the engine's tests was trained on them.
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
    },
}
MAX_TOKENS = 2048  # or half of a small context
THINKING_TOKENS = 512  # where the worker keeps to a quota; 0 would make vLLM think aloud
SEEN_CHARACTERS = 32  # of an answer behind a thought, without tags: enough

BAD_REQUEST = "400"  # vLLM streams some of its refusals, with a status of 200

START_WITH_PARSER = (
    "start it with its reasoning parser (vLLM: --reasoning-parser qwen3), or declare separation "
    "'inline'"
)


class Outcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNDECIDED = "undecided"  # it could not be asked, or did not get far enough


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is for the operator's log, and says what to change."""

    outcome: Outcome
    reason: str = ""


class Calls(StrEnum):
    """What became of the question for a tool call; models are free to make none."""

    PARSED = "parsed"
    IN_TEXT = "in_text"
    NONE = "none"


def judge(events: Sequence[Event], separation: Separation) -> Verdict:
    """An answer to the question, or as much of it as there was."""
    failures = [event.message for event in events if isinstance(event, StreamFailed)]
    if failures:
        return Verdict(Outcome.UNDECIDED, f"the worker failed: {failures[0]}")
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    finish = next((event.reason for event in events if isinstance(event, Finish)), None)
    if separation is Separation.INLINE:
        return _judge_inline(thought, text, finish)
    if _tagged(text):
        return Verdict(
            Outcome.FAILED, f"the worker leaves the thought in the text: {START_WITH_PARSER}"
        )
    if finish and not thought.strip():
        return Verdict(
            Outcome.FAILED,
            f"the worker leaves the thought in the text, or does not think: {START_WITH_PARSER}",
        )
    if thought.strip() and (text.strip() or finish == "length"):
        return Verdict(Outcome.OK)
    if finish:
        return Verdict(Outcome.FAILED, "the worker thought and gave no answer")
    return Verdict(Outcome.UNDECIDED, "the worker's answer broke off")


def _judge_inline(thought: str, text: str, finish: str | None) -> Verdict:
    if thought.strip():
        return Verdict(
            Outcome.FAILED,
            "the worker splits the thought off by itself: declare separation 'parser'",
        )
    if text.partition(CLOSE_TAG)[0].strip() and CLOSE_TAG in text:
        return Verdict(Outcome.OK)
    if finish == "length":
        return Verdict(Outcome.UNDECIDED, "the worker's thought did not end in time")
    if finish:
        return Verdict(
            Outcome.FAILED, "no thought ends in the worker's text: which template does it use?"
        )
    return Verdict(Outcome.UNDECIDED, "the worker's answer broke off")


def _tagged(text: str) -> bool:
    return any(tag.kind in (Kind.OPEN, Kind.CLOSE) for tag in tags(text))


def judge_calls(events: Sequence[Event]) -> Calls:
    if any(isinstance(event, ToolCallDelta) for event in events):
        return Calls.PARSED
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return Calls.IN_TEXT if CALL_TAG in text else Calls.NONE


async def check(endpoint: Endpoint, client: WorkerClient, seconds: float) -> Verdict:
    """Asks both questions, each for at most `seconds`, and notes on the endpoint how it calls
    tools. Raises nothing but a cancellation."""
    endpoint.calls = None
    try:
        async with asyncio.timeout(seconds):
            events = await _ask(endpoint, client, seconds, QUESTION)
    except InvalidRequest:
        return Verdict(Outcome.FAILED, _why_invalid(endpoint))
    except TimeoutError:
        return Verdict(Outcome.UNDECIDED, "no answer in time")
    except (GatewayError, SSEError, MalformedChunk) as error:
        return Verdict(Outcome.UNDECIDED, f"{type(error).__name__}: {error}")
    verdict = Verdict(Outcome.OK)
    if endpoint.settings.thinks:
        verdict = judge(events, endpoint.settings.separation)
    if verdict.outcome is Outcome.OK and _takes_tools(endpoint):
        return await _check_calls(endpoint, client, seconds)
    return verdict


def _why_invalid(endpoint: Endpoint) -> str:
    """vLLM takes no thinking quota where it has no reasoning parser."""
    if endpoint.dialect.thinking_quota:
        return f"the worker refuses a thinking quota: {START_WITH_PARSER}"
    return "the worker refuses a plain question as invalid; its own log says why"


def _takes_tools(endpoint: Endpoint) -> bool:
    """Transformers is a worker for development, with calls that it drops as it likes."""
    engine = endpoint.settings.engine
    return not endpoint.dialect.grammar_bound and engine is not Engine.TRANSFORMERS


async def _check_calls(endpoint: Endpoint, client: WorkerClient, seconds: float) -> Verdict:
    """Only a thought in the text counts against a worker that has answered the first question."""
    events: list[Event] = []
    with suppress(TimeoutError, GatewayError, SSEError, MalformedChunk):  # undecided
        async with asyncio.timeout(seconds):
            events = await _ask_for_call(endpoint, client, seconds)
        endpoint.calls = judge_calls(events)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    if endpoint.settings.separation is Separation.PARSER and _tagged(text):
        return Verdict(
            Outcome.FAILED,
            "the worker leaves the thought in the text where it may call tools: "
            f"{START_WITH_PARSER}",
        )
    return Verdict(Outcome.OK)


async def _ask_for_call(endpoint: Endpoint, client: WorkerClient, seconds: float) -> list[Event]:
    """Raises what `_ask` raises. A worker that takes no tools has no parser for their calls."""
    for tools_as_text in (False, True):
        endpoint.dialect = replace(endpoint.dialect, tools_as_text=tools_as_text)
        with suppress(InvalidRequest):  # the next way, or none
            return await _ask(endpoint, client, seconds, TOOL_QUESTION, TOOL)
    endpoint.dialect = replace(endpoint.dialect, tools_as_text=False)
    return []


async def _ask(
    endpoint: Endpoint, client: WorkerClient, seconds: float, question: str, *tools: Json
) -> list[Event]:
    """The events of its answer, until they tell enough."""
    max_tokens = min(MAX_TOKENS, max(2, endpoint.context_tokens // 2))
    fields: Json = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "thinking_token_budget": min(THINKING_TOKENS, max_tokens // 2),
    }
    if tools:
        fields["tools"] = list(tools)
    # Its own every time: other replicas ask as well, and engines refuse an id that is in use.
    request_id = f"req_check_{secrets.token_hex(8)}"
    rid = rid_of(endpoint.dialect, request_id)
    body = worker_body(endpoint.dialect, endpoint.settings, endpoint.model or "", fields, rid)
    stream = await client.open(
        endpoint, body, request_id=request_id, first_byte_seconds=seconds, rid=rid, ours=True
    )
    decoder = SSEDecoder()
    events: list[Event] = []
    try:
        while data := await stream.read():
            payloads = decoder.feed(data)
            events += _events(payloads)
            if DONE in payloads or (not tools and _tells(events, endpoint.settings.separation)):
                break
    finally:
        stream.close()
    if any(isinstance(event, StreamFailed) and event.code == BAD_REQUEST for event in events):
        raise InvalidRequest("The model server refused the request as invalid.")
    return events


def _events(payloads: Sequence[bytes]) -> Iterator[Event]:
    for payload in payloads:
        if payload != DONE:
            yield from decode_chunk(payload)


def _tells(events: Sequence[Event], separation: Separation) -> bool:
    """Whether the rest of the answer is of no interest."""
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    if separation is Separation.INLINE:
        return CLOSE_TAG in text
    thought = any(isinstance(event, ReasoningDelta) and event.text.strip() for event in events)
    return thought and len(text.strip()) >= SEEN_CHARACTERS
