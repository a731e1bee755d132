"""A completion's body, read into what the pipeline works on.

Nothing is passed on that was not understood: the messages and tools are rebuilt.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import orjson
from pydantic import ValidationError

from app.api.validation import explain
from app.api.wire import (
    AllowedToolsChoice,
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)
from app.api.wire_messages import (
    AssistantMessage,
    FunctionMessage,
    SystemMessage,
    UserMessage,
    joined,
)
from app.api.wire_values import MAX_DEPTH, within_depth
from app.errors import InvalidRequest
from app.protocol.nonces import without_nonces
from app.protocol.request import SYSTEM_JOINT, ChatRequest, Json, SentThought
from app.settings import Settings

Wire = TypeVar("Wire", bound=GenerationRequest)

MAX_STOP_SEQUENCES = 4  # OpenAI's limit
MAX_METADATA_PAIRS = 16  # OpenAI's limit
MAX_PARTS = 1_000  # of one message; they are joined anyway
MAX_STOP_CHARACTERS = 256  # each is held back until it is decided
MAX_SCHEMA_BYTES = 256 * 1024  # of all tools, or of a response format: the engine compiles it
MAX_REASONING_DETAILS = 64  # of one message; we send one, OpenRouter one for each block

SAMPLING_FIELDS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty",
)  # fmt: skip


def parse_chat(body: bytes, settings: Settings) -> ChatRequest:
    """Raises InvalidRequest that names the field at fault in `param`."""
    wire, sent = _validated(ChatCompletionRequest, body, settings)
    system = _system_parts(wire)
    messages, thoughts, sent_as = _messages(wire, system)
    tools = _tools(wire)
    tool_choice, allowed = _tool_choice(wire)
    return replace(
        _generation(wire, sent, len(body), settings),
        messages=messages,
        thoughts=thoughts,
        sent_as=sent_as,
        system_parts=tuple(system) if len(system) > 1 else (),
        affinity_hint=wire.prompt_cache_key or None,
        annotate=bool(wire.gateway and wire.gateway.annotate),
        max_tokens=wire.max_completion_tokens or wire.max_tokens,
        tools=tools,
        tool_choice=tool_choice,
        allowed_tools=allowed,
        parallel_tool_calls=wire.parallel_tool_calls,
        response_format=_response_format(wire),
        reasoning_effort=wire.reasoning_effort,
    )


def parse_completion(body: bytes, settings: Settings) -> ChatRequest:
    """The same for the older route, whose prompt becomes a user's turn: a raw prompt would reach
    the model without the template that opens its thought."""
    wire, sent = _validated(CompletionRequest, body, settings)
    request = _generation(wire, sent, len(body), settings)
    return replace(request, chat=False, messages=({"role": "user", "content": wire.prompt},))


def _validated(model: type[Wire], body: bytes, settings: Settings) -> tuple[Wire, Json]:
    """With the body as it was sent."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(
            "We could not parse the JSON body of your request.", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    _refuse_crowds(value, settings)
    try:
        return model.model_validate(value), value
    except ValidationError as error:
        raise explain(error) from None


def _refuse_crowds(body: Json, settings: Settings) -> None:
    """Counted before anything is built of it: a million empty messages are 3 MB on the wire, and
    seconds and gigabytes as objects."""
    messages = body.get("messages")
    limits: list[tuple[str, object, int]] = [
        ("messages", messages, settings.max_messages),
        ("tools", body.get("tools"), settings.max_tools),
        (_ALLOWED, _allowed_in(body), settings.max_tools),
        ("stop", body.get("stop"), MAX_STOP_SEQUENCES),
        ("metadata", body.get("metadata"), MAX_METADATA_PAIRS),
    ]
    for param, items, most in limits:
        if isinstance(items, list | dict) and len(items) > most:
            raise _invalid(param, f"must have at most {most} items")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            for field, most in (
                ("content", MAX_PARTS),
                ("tool_calls", settings.max_tools),
                ("reasoning_details", MAX_REASONING_DETAILS),
            ):
                items = message.get(field)
                if isinstance(items, list) and len(items) > most:
                    raise _invalid(f"messages[{index}].{field}", f"must have at most {most} items")


_ALLOWED = "tool_choice.allowed_tools.tools"


def _allowed_in(body: Json) -> object:
    """What stands at `_ALLOWED`, if anything does."""
    value: object = body
    for name in _ALLOWED.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _generation(
    wire: GenerationRequest, sent: Json, body_bytes: int, settings: Settings
) -> ChatRequest:
    """What the routes share; the messages are still to come."""
    choices = wire.n or 1
    if choices > settings.max_choices:
        raise _invalid("n", f"must be at most {settings.max_choices}")
    return ChatRequest(
        model=wire.model,
        messages=(),
        body_bytes=body_bytes,
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        sampling={
            name: value for name in SAMPLING_FIELDS if (value := getattr(wire, name)) is not None
        },
        max_tokens=wire.max_tokens,
        n=choices,
        seed=wire.seed,
        stop=_stop(wire.stop),
        sent=sent,
    )


def _messages(
    wire: ChatCompletionRequest, system: Sequence[tuple[int, str]]
) -> tuple[tuple[Json, ...], tuple[SentThought, ...], tuple[int, ...]]:
    """System texts first, as one: the template raises on a system message anywhere else. With the
    thoughts that were sent, and the index that each message had."""
    rebuilt: list[Json] = []
    sent_as: list[int] = []
    if system:
        sent_as.append(system[0][0])
        rebuilt.append({"role": "system", "content": SYSTEM_JOINT.join(text for _, text in system)})
    thoughts: list[SentThought] = []
    users = 0
    for index, message in enumerate(wire.messages):
        if isinstance(message, SystemMessage | FunctionMessage):  # the latter was refused already
            continue
        users += isinstance(message, UserMessage)
        sent_as.append(index)
        if isinstance(message, AssistantMessage) and (message.seals or message.thought):
            at = len(rebuilt)
            thoughts.append(SentThought(at, index, message.seals, message.thought))
        try:
            rebuilt.append(message.rebuilt())
        except ValueError as error:
            raise _invalid(f"messages[{index}].tool_calls", f"arguments {error}") from None
    if not users:
        raise _invalid("messages", "must contain at least one message with role 'user'")
    return tuple(rebuilt), tuple(thoughts), tuple(sent_as)


def _system_parts(wire: ChatCompletionRequest) -> list[tuple[int, str]]:
    """What a worker reads of them; a part that was nothing but a nonce is none."""
    parts: list[tuple[int, str]] = []
    for index, message in enumerate(wire.messages):
        if isinstance(message, SystemMessage):
            text = joined(message.content)
            kept = without_nonces(text)
            if kept or not text:
                parts.append((index, kept))
    return parts


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    sequences = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(not 1 <= len(sequence) <= MAX_STOP_CHARACTERS for sequence in sequences):
        raise _invalid("stop", f"each sequence must have 1 to {MAX_STOP_CHARACTERS} characters")
    return sequences


def _tools(wire: ChatCompletionRequest) -> tuple[Json, ...]:
    if wire.tools is None:
        return ()
    names = [tool.function.name for tool in wire.tools]
    if len(set(names)) < len(names):
        raise _invalid("tools", "must have names that differ from each other")
    tools = tuple(tool.function.rebuilt() for tool in wire.tools)
    _bounded("tools", tools)
    return tools


def _tool_choice(
    wire: ChatCompletionRequest,
) -> tuple[str | Json | None, frozenset[str] | None]:
    """The choice as workers know it, and the names to which it narrows the tools."""
    choice = wire.tool_choice
    if choice is None or choice in ("none", "auto"):
        return choice if isinstance(choice, str) else None, None
    if not wire.tools:
        raise _invalid("tool_choice", "is only allowed when 'tools' are given")
    if isinstance(choice, str):
        return choice, None
    known = {tool.function.name for tool in wire.tools}
    if isinstance(choice, AllowedToolsChoice):
        names = [tool.function.name for tool in choice.allowed_tools.tools]
        for index, name in enumerate(names):
            if name not in known:
                at = f"{_ALLOWED}[{index}].function.name"
                raise _invalid(at, f"'{name}' is not among the tools")
        return choice.allowed_tools.mode, frozenset(names)
    name = choice.function.name
    if name not in known:
        raise _invalid("tool_choice", f"names '{name}', which is not among the tools")
    return {"type": "function", "function": {"name": name}}, None


def _response_format(wire: ChatCompletionRequest) -> Json | None:
    if wire.response_format is None:
        return None
    rebuilt = wire.response_format.rebuilt()
    _bounded("response_format", rebuilt)
    return rebuilt


def _bounded(param: str, value: object) -> None:
    if not within_depth(value, MAX_DEPTH):
        raise _invalid(param, f"must not be nested deeper than {MAX_DEPTH} levels")
    if len(orjson.dumps(value)) > MAX_SCHEMA_BYTES:
        raise _invalid(param, f"must not exceed {MAX_SCHEMA_BYTES} bytes")


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param)
