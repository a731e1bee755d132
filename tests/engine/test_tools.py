import json

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.engine.conversation import (
    MODEL,
    WEATHER,
    WEATHER_ANSWER,
    WEATHER_RESULT,
    WEATHER_TOOL,
    assert_no_thought,
    reasoning_tokens,
    user,
)


def test_tool_is_called_and_its_result_answered(client: OpenAI) -> None:
    asked = client.chat.completions.create(
        model=MODEL, messages=[user(WEATHER)], tools=[WEATHER_TOOL]
    )

    assert_no_thought(asked)
    assert reasoning_tokens(asked.usage) > 0
    assert asked.choices[0].finish_reason == "tool_calls"
    message = asked.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}

    # The way that every SDK user does it: the message itself, then the tool's result.
    turn: ChatCompletionMessageParam = message  # type: ignore[assignment]  # sent back as it came
    answered = client.chat.completions.create(
        model=MODEL,
        messages=[
            user(WEATHER),
            turn,
            {"role": "tool", "tool_call_id": call.id, "content": WEATHER_RESULT},
        ],
        tools=[WEATHER_TOOL],
    )

    assert_no_thought(answered)
    assert answered.choices[0].message.content is not None
    assert answered.choices[0].message.content.strip() == WEATHER_ANSWER
    assert answered.choices[0].finish_reason == "stop"


def test_streamed_tool_call_names_its_function_once(client: OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=[user(WEATHER)], tools=[WEATHER_TOOL], stream=True
    ) as stream:
        chunks = list(stream)

    assert_no_thought(*chunks)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or []]
    functions = [piece.function for piece in pieces if piece.function is not None]
    assert {piece.index for piece in pieces} == {0}
    assert len([piece.id for piece in pieces if piece.id]) == 1
    assert [function.name for function in functions if function.name] == ["get_weather"]
    arguments = "".join(function.arguments or "" for function in functions)
    assert json.loads(arguments) == {"city": "Oslo"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not "".join(delta.content or "" for delta in deltas).strip()


def test_sdk_helper_assembles_the_streamed_tool_call(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[user(WEATHER)], tools=[WEATHER_TOOL]
    ) as stream:
        stream.until_done()
        message = stream.get_final_completion().choices[0].message

    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
