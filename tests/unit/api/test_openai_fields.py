"""Every field of the newest OpenAI request is honoured, without effect, or refused by name.

The list of fields is the SDK's own: an update that brings a new one fails here until somebody has
decided what becomes of it.
"""

from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import orjson
import pytest
from openai.types import completion_create_params
from openai.types.chat import (
    chat_completion_message_param,
    chat_completion_tool_choice_option_param,
    chat_completion_tool_union_param,
)
from openai.types.chat import (
    completion_create_params as chat_create_params,
)
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict  # the SDK's dictionaries are of these

from app.api.openai import create_chat_completion, create_completion
from app.api.parse import parse_chat, parse_completion
from app.api.wire import ChatCompletionRequest, CompletionRequest
from app.errors import InvalidRequest
from app.protocol.request import ChatRequest
from app.settings import Settings

CHAT_FIELDS = frozenset(get_type_hints(chat_create_params.CompletionCreateParamsStreaming))
TEXT_FIELDS = frozenset(get_type_hints(completion_create_params.CompletionCreateParamsStreaming))

HONOURED = frozenset(
    {
        "frequency_penalty", "max_completion_tokens", "max_tokens", "messages", "model", "n",
        "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "reasoning_effort",
        "response_format", "seed", "stop", "stream", "stream_options", "temperature", "tool_choice",
        "tools", "top_p",
    }
)  # fmt: skip
WITHOUT_EFFECT: dict[str, Any] = {
    "metadata": {"a": "b"},
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "user": "u",
    "verbosity": "low",
}
REFUSED: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"1": 1},
    "logprobs": True,
    "modalities": ["audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "prediction": {"type": "content", "content": "x"},
    "service_tier": "priority",
    "store": True,
    "top_logprobs": 3,
    "web_search_options": {},
}
REFUSED_TEXT: dict[str, Any] = {
    "best_of": 2, "echo": True, "logit_bias": {"1": 1}, "logprobs": 1, "suffix": "x",
}  # fmt: skip


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "qwythos", "messages": [{"role": "user", "content": "hi"}]} | fields
    return parse_chat(orjson.dumps(body), Settings())


def text(**fields: Any) -> ChatRequest:
    return parse_completion(orjson.dumps({"model": "qwythos", "prompt": "hi"} | fields), Settings())


def test_every_field_of_a_chat_has_been_decided_upon() -> None:
    assert HONOURED | WITHOUT_EFFECT.keys() | REFUSED.keys() == CHAT_FIELDS
    assert ChatCompletionRequest.model_fields.keys() >= CHAT_FIELDS


def test_every_field_of_a_completion_has_been_decided_upon() -> None:
    honoured = (HONOURED & TEXT_FIELDS) | {"prompt"}
    assert honoured | {"user"} | REFUSED_TEXT.keys() == TEXT_FIELDS
    assert CompletionRequest.model_fields.keys() >= TEXT_FIELDS


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_field_without_effect_has_none_and_is_documented_so(name: str) -> None:
    with_it = chat(**{name: WITHOUT_EFFECT[name]})
    plain = chat()
    assert [getattr(with_it, field) for field in UNSIZED] == [
        getattr(plain, field) for field in UNSIZED
    ]
    documented = (create_chat_completion.__doc__ or "").partition("Accepted without effect")[2]
    assert f"`{name}`" in documented.partition("Refused by name")[0]


# But for its size, and for what is kept of it on record.
UNSIZED = [
    field for field in ChatRequest.__dataclass_fields__ if field not in ("body_bytes", "sent")
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_that_is_not_served_is_refused_by_name_and_documented_so(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**{name: REFUSED[name]})
    assert caught.value.param in (name, f"{name}[0]")
    assert caught.value.code == "unsupported_parameter"
    assert f"`{name}`" in (create_chat_completion.__doc__ or "").partition("Refused by name")[2]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_served_may_be_sent_as_null(name: str) -> None:
    chat(**{name: None})


@pytest.mark.parametrize("name", REFUSED_TEXT)
def test_a_completions_field_that_is_not_served_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        text(**{name: REFUSED_TEXT[name]})
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
    assert f"`{name}`" in (create_completion.__doc__ or "")


# -- what stands inside: the SDK's dictionaries against our models, all the way down

# Whole kinds that are refused by name, as test_parse shows: what is in them is not looked at.
KINDS_REFUSED = frozenset(
    {
        "ChatCompletionContentPartImageParam", "ChatCompletionContentPartInputAudioParam", "File",
        "ChatCompletionFunctionMessageParam", "ChatCompletionCustomToolParam",
        "ChatCompletionMessageCustomToolCallParam", "ChatCompletionNamedToolChoiceCustomParam",
    }
)  # fmt: skip
# A null passes, and everything else is refused by name.
ONLY_NULL = frozenset({"audio", "function_call"})


def inside(hint: Any) -> Iterable[Any]:
    """The dictionaries or models that a type is made of."""
    if is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        yield hint
    elif get_origin(hint) is Annotated:
        yield from inside(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType) or get_origin(hint) is not None:
        for argument in get_args(hint):
            yield from inside(argument)


def ours(model: type[BaseModel]) -> dict[str, Any]:
    """Names as they are sent, and what stands there."""
    return {
        field.alias or name: get_type_hints(model, include_extras=True)[name]
        for name, field in model.model_fields.items()
    }


def kind_of(hint: Any) -> frozenset[str]:
    """Values of `role` or `type`: they tell the members of a union apart."""
    fields = ours(hint) if not is_typeddict(hint) else get_type_hints(hint)
    values = literals(fields.get("role", fields.get("type")))
    return frozenset(values)


def literals(hint: Any) -> set[str]:
    found: set[str] = set()
    for argument in get_args(hint):
        found |= {argument} if isinstance(argument, str) else literals(argument)
    return found


def missing(theirs: Any, our_hint: Any, path: str) -> list[str]:
    """Paths of the SDK's fields for which our model has no place."""
    faults: list[str] = []
    models = list(inside(our_hint))
    for dictionary in inside(theirs):
        if dictionary.__name__ in KINDS_REFUSED:
            continue
        kind = kind_of(dictionary)
        fitting = [model for model in models if not kind or kind <= kind_of(model)]
        if not fitting:
            if models:
                faults.append(f"{path}<{dictionary.__name__}>")
            continue  # taken as it is: JSON without effect
        places = ours(fitting[0])
        for name, hint in get_type_hints(dictionary).items():
            if name not in places:
                faults.append(f"{path}.{name}")
            elif name not in ONLY_NULL:
                faults += missing(hint, places[name], f"{path}.{name}")
    return faults


@pytest.mark.parametrize(
    ("theirs", "field"),
    [
        (chat_completion_message_param.ChatCompletionMessageParam, "messages"),
        (chat_completion_tool_union_param.ChatCompletionToolUnionParam, "tools"),
        (
            chat_completion_tool_choice_option_param.ChatCompletionToolChoiceOptionParam,
            "tool_choice",
        ),
        (chat_create_params.ResponseFormat, "response_format"),
        (chat_create_params.ChatCompletionStreamOptionsParam, "stream_options"),
    ],
)
def test_every_inner_field_has_a_place(theirs: Any, field: str) -> None:
    assert missing(theirs, ours(ChatCompletionRequest)[field], field) == []


def test_a_field_that_is_unknown_would_be_noticed() -> None:
    role_only = chat_completion_message_param.ChatCompletionUserMessageParam
    assert missing(role_only, ours(ChatCompletionRequest)["tools"], "x") != []
