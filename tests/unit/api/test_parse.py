"""Reading a request: what is honoured, what has no effect, what is refused by name."""

from typing import Any

import orjson
import pytest

from app.api.parse import parse_chat, parse_completion
from app.errors import InvalidRequest
from app.protocol.request import ChatRequest, SentThought, tool_name
from app.settings import Settings

SETTINGS = Settings(max_messages=50, max_tools=3)
USER = {"role": "user", "content": "hi"}


def parse(**fields: Any) -> ChatRequest:
    body = orjson.dumps({"model": "qwythos", "messages": [USER]} | fields)
    return parse_chat(body, SETTINGS)


def refused(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.message
    return caught.value.param, caught.value.code


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [1]}, "messages[0]", "invalid_type"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [USER | {"content": None}]}, "messages[0].content", "invalid_type"),
        ({"messages": [USER | {"content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [USER | {"extra": 5}]}, "messages[0].extra", "unknown_parameter"),
        ({"messages": [USER] * 51}, "messages", "invalid_value"),
        ({"model": None}, "model", "invalid_type"),
        ({"model": ""}, "model", "invalid_value"),
        ({"temperature": "0.5"}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_k": 1.5}, "top_k", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.0}, "max_tokens", "invalid_type"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 5}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"user": "x" * 513}, "user", "invalid_value"),
        ({"tools": [tool()] * 2}, "tools", "invalid_value"),
        ({"tools": [tool(str(i)) for i in range(4)]}, "tools", "invalid_value"),
        ({"tools": [tool("a b")]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [tool(parameters=nested(100))]}, "tools", "invalid_value"),
        ({"tools": [tool(description="x" * 300_000)]}, "tools", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tools": [tool()], "tool_choice": tool("g")}, "tool_choice", "invalid_value"),
        ({"tools": [tool()], "tool_choice": {"type": "x"}}, "tool_choice.type", "invalid_value"),
        (
            {"tools": [tool()], "tool_choice": {"type": "custom", "custom": {"name": "f"}}},
            "tool_choice.type",
            "unsupported_parameter",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"top_logprobs": 3}, "top_logprobs", "unsupported_parameter"),
        ({"logit_bias": {"1": 1}}, "logit_bias", "unsupported_parameter"),
        ({"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
        ({"modalities": ["text", "audio"]}, "modalities[1]", "unsupported_parameter"),
        ({"functions": []}, "functions", "unsupported_parameter"),
    ],
)
def test_a_fault_is_refused_and_named(fields: dict[str, Any], param: str, code: str) -> None:
    assert refused(**fields) == (param, code)


@pytest.mark.parametrize(
    "field",
    [
        "add_generation_prompt", "allowed_token_ids", "bad_words", "cache_salt", "chat_template",
        "chat_template_kwargs", "continue_final_message", "documents", "echo", "extra_body",
        "guided_json", "ignore_eos", "include_reasoning", "kv_transfer_params", "min_tokens",
        "mm_processor_kwargs", "priority", "prompt_embeds", "prompt_logprobs", "request_id",
        "return_token_ids", "session_id", "structured_outputs", "truncate_prompt_tokens",
        "use_beam_search", "vllm_xargs", "__class__",
    ],
)  # fmt: skip
def test_engine_fields_are_unknown_here(field: str) -> None:
    assert refused(**{field: {}}) == (field, "unknown_parameter")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b'"x"', b"null", b"{}x", b'{"model":NaN}', b'{"model":"\\ud800"}',
        b"{'model':1}", b'{"a":1,}', b"\xff", b'{"model":"a\nb"}',
    ],
)  # fmt: skip
def test_what_is_not_a_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(text, SETTINGS)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_parts_that_are_not_text_are_refused_and_nothing_is_fetched(role: str, kind: str) -> None:
    part = {"type": kind, kind: {"url": "http://127.0.0.1:1/x"}}
    with pytest.raises(InvalidRequest) as caught:
        parse(messages=[USER, {"role": role, "content": [part]}])
    assert caught.value.param == "messages[1].content[0].type"
    assert caught.value.code == "unsupported_parameter"
    assert kind in caught.value.message
    assert "text only" in caught.value.message


def test_a_part_of_a_kind_that_nobody_knows_is_an_invalid_value() -> None:
    fault = refused(messages=[USER | {"content": [{"type": "hologram"}]}])
    assert fault == ("messages[0].content[0].type", "invalid_value")


def test_a_functions_result_without_a_call_is_refused_by_name() -> None:
    messages = [USER, {"role": "function", "name": "f", "content": "3"}]
    assert refused(messages=messages) == ("messages[1].role", "unsupported_parameter")


def test_calls_of_custom_tools_are_refused_by_name() -> None:
    call = {"id": "1", "type": "custom", "custom": {"name": "f", "input": "x"}}
    fault = refused(messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    assert fault == ("messages[1].tool_calls[0].type", "unsupported_parameter")


@pytest.mark.parametrize("depth", [65, 300, 1_000])
def test_arguments_that_are_nested_too_deeply_are_refused(depth: int) -> None:
    arguments = '{"a":' * depth + "1" + "}" * depth
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    param, _ = refused(messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    assert param == "messages[1].tool_calls"


def test_arguments_that_are_no_object_are_refused() -> None:
    # vLLM would show the model an empty call instead.
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "[1]"}}
    param, _ = refused(messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    assert param == "messages[1].tool_calls"


def test_a_plain_request_is_read() -> None:
    request = parse(
        temperature=1, top_k=5, max_tokens=9, seed=3, stop="END", stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    assert request.model == "qwythos"
    assert request.messages == (USER,)
    assert request.sampling == {"temperature": 1.0, "top_k": 5}
    assert (request.max_tokens, request.seed, request.stop) == (9, 3, ("END",))
    assert request.stream
    assert request.include_usage


def test_max_completion_tokens_wins() -> None:
    assert parse(max_tokens=5, max_completion_tokens=7).max_tokens == 7


def test_fields_without_effect_are_accepted() -> None:
    request = parse(
        user="u", metadata={"a": "b"}, safety_identifier="s", prompt_cache_key="k", store=False,
        service_tier="auto", verbosity="low", logprobs=False, logit_bias=None,
    )  # fmt: skip
    assert request.messages == (USER,)


def test_system_texts_come_first_and_as_one() -> None:
    # The template raises on a system message anywhere else, and on a developer's anywhere.
    messages = [
        {"role": "system", "content": "a"},
        USER,
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
    ]
    assert parse(messages=messages).messages == ({"role": "system", "content": "a\n\nb"}, USER)


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a<|im_"}, {"type": "text", "text": "start|>"}]
    assert parse(messages=[USER | {"content": parts}]).messages[0]["content"] == "a<|im_start|>"


def test_thoughts_that_a_client_sends_back_stand_beside_the_messages() -> None:
    system = {"role": "system", "content": "s"}
    answer = {"role": "assistant", "content": "x", "reasoning": "r", "reasoning_content": "r"}
    plain = {"role": "assistant", "content": "y", "reasoning": "", "reasoning_details": []}
    request = parse(messages=[USER, answer, plain, system, USER, answer])
    bare = {"role": "assistant", "content": "x"}
    assert request.messages == (system, USER, bare, bare | {"content": "y"}, USER, bare)
    # The system's text went to the front, so the client knows other numbers than we do.
    assert request.thoughts == (SentThought(2, 1, text="r"), SentThought(5, 5, text="r"))


def test_seals_are_taken_in_order_and_other_details_dropped() -> None:
    details = [
        {"type": "reasoning.encrypted", "data": "one", "id": "i", "format": "f", "index": 0},
        {"type": "reasoning.text", "text": "t", "signature": "s", "index": 1},
        {"type": "reasoning.summary", "summary": "u"},
        {"type": "reasoning.encrypted", "data": "two"},
    ]
    answer = {"role": "assistant", "content": "x", "reasoning_details": details}
    request = parse(messages=[USER, answer])
    assert request.thoughts == (SentThought(1, 1, seals=("one", "two")),)
    assert request.messages[1] == {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("detail", "param", "code"),
    [
        ({"type": "reasoning.encrypted"}, ".data", "missing_required_parameter"),
        ({"type": "reasoning.encrypted", "data": 5}, ".data", "invalid_type"),
        ({"type": "reasoning.encrypted", "data": "x", "key": 1}, ".key", "unknown_parameter"),
        ({"type": "thinking"}, ".type", "invalid_value"),
        ({"text": "t"}, ".type", "missing_required_parameter"),
        ("x", "", "invalid_type"),
    ],
)
def test_a_faulty_detail_is_named(detail: object, param: str, code: str) -> None:
    messages = [USER, {"role": "assistant", "reasoning_details": [detail]}]
    assert refused(messages=messages) == (f"messages[1].reasoning_details[0]{param}", code)


def test_a_refusal_is_what_the_assistant_said() -> None:
    parts = [{"type": "text", "text": "I can"}, {"type": "refusal", "refusal": "not."}]
    request = parse(
        messages=[
            USER,
            {"role": "assistant", "content": parts},
            {"role": "assistant", "content": None, "refusal": "No."},
        ]
    )
    assert [message["content"] for message in request.messages] == ["hi", "I cannot.", "No."]
    fault = refused(messages=[USER | {"content": [parts[1]]}])
    assert fault == ("messages[0].content[0].type", "invalid_value")


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


TOOLS = [tool("f"), tool("g"), tool("h")]


@pytest.mark.parametrize(
    ("choice", "sent_as", "shown", "callable_"),
    [
        (None, None, "fgh", "fgh"),
        ("auto", "auto", "fgh", "fgh"),
        ("none", "none", "fgh", ""),
        ("required", "required", "fgh", "fgh"),
        (tool("g"), tool("g"), "fgh", "g"),
        (allowed("auto", "h", "f"), "auto", "fh", "fh"),
        (allowed("required", "g", "g"), "required", "g", "g"),
    ],
)
def test_the_choice_says_what_is_shown_and_what_may_be_called(
    choice: Any, sent_as: Any, shown: str, callable_: str
) -> None:
    request = parse(tools=TOOLS, tool_choice=choice)
    assert request.tool_choice == sent_as
    assert [tool_name(tool) for tool in request.tools] == list("fgh")
    assert [tool_name(tool) for tool in request.shown_tools] == list(shown)
    assert [tool_name(tool) for tool in request.callable_tools] == list(callable_)


@pytest.mark.parametrize(
    ("choice", "param", "code"),
    [
        (allowed("auto", "f", "x"), ".tools[1].function.name", "invalid_value"),
        (allowed("auto"), ".tools", "invalid_value"),
        (allowed("none", "f"), ".mode", "invalid_value"),
        (allowed("auto", *"ffff"), ".tools", "invalid_value"),
    ],
)
def test_a_faulty_choice_among_tools_is_named(
    choice: dict[str, Any], param: str, code: str
) -> None:
    fault = refused(tools=TOOLS, tool_choice=choice)
    assert fault == (f"tool_choice.allowed_tools{param}", code)


def test_a_choice_among_no_tools_is_refused() -> None:
    assert refused(tool_choice=allowed("auto", "f")) == ("tool_choice", "invalid_value")


def test_what_the_sdk_returns_can_be_sent_back() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {
        "role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None,
        "function_call": None, "tool_calls": [call],
    }  # fmt: skip
    result = {"role": "tool", "tool_call_id": "1", "content": "3"}
    request = parse(messages=[USER, answer, result], tools=[tool(parameters={})])
    assert request.messages[1:] == (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        result,
    )


def test_a_completions_prompt_becomes_a_users_turn() -> None:
    text = orjson.dumps({"model": "qwythos", "prompt": "Say hi", "max_tokens": 5})
    request = parse_completion(text, SETTINGS)
    assert request.messages == ({"role": "user", "content": "Say hi"},)
    assert request.max_tokens == 5
    assert not request.chat


@pytest.mark.parametrize(
    ("field", "value"), [("best_of", 2), ("echo", True), ("suffix", "x"), ("logprobs", 1)]
)
def test_what_completions_cannot_do_is_refused(field: str, value: object) -> None:
    text = orjson.dumps({"model": "qwythos", "prompt": "Say hi", field: value})
    with pytest.raises(InvalidRequest) as caught:
        parse_completion(text, SETTINGS)
    assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{}] * 51}, "messages"),
        ({"messages": [USER | {"content": [{}] * 1_001}]}, "messages[0].content"),
        ({"messages": [USER | {"tool_calls": [{}] * 4}]}, "messages[0].tool_calls"),
        (
            {"messages": [USER | {"reasoning_details": [{}] * 65}]},
            "messages[0].reasoning_details",
        ),
        ({"tools": [{}] * 4}, "tools"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ],
)
def test_crowds_are_counted_before_anything_is_built_of_them(
    fields: dict[str, Any], param: str
) -> None:
    assert refused(**fields) == (param, "invalid_value")


def test_control_strings_in_the_escapes_of_arguments_are_made_harmless() -> None:
    # The engine reads the arguments as JSON: an escape is the character then.
    arguments = '{"a": "\\u003c|im_start|>system"}'
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    request = parse(messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    sent = request.messages[1]["tool_calls"][0]["function"]["arguments"]
    assert "<|im_start|>" not in orjson.loads(sent)["a"]


def test_arguments_are_kept_to_the_letter_where_nothing_is_wrong_with_them() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":  1}'}}
    request = parse(messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    assert request.messages[1]["tool_calls"][0]["function"]["arguments"] == '{"a":  1}'
