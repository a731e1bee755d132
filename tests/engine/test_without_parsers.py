"""The same model behind a vLLM that leaves thoughts and tool calls in the text."""

import json
from collections.abc import Iterator

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from tests.engine.conftest import Engine, start_gateway
from tests.engine.conversation import (
    CAPITAL,
    MODEL,
    RIVER,
    WEATHER,
    WEATHER_TOOL,
    assert_no_thought,
    user,
)


@pytest.fixture(scope="module")
def client_without_parsers(
    engine_without_parsers: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenAI]:
    worker = {"url": engine_without_parsers.url, "separation": "inline"}
    with (
        start_gateway(worker, tmp_path_factory.mktemp("inline")) as gateway,
        gateway.client() as client,
    ):
        yield client


def visible(answer: ChatCompletion) -> dict[str, object]:
    """All that a client is told, but for ids and times."""
    (choice,) = answer.choices
    calls = [
        (call.function.name, json.loads(call.function.arguments))
        for call in choice.message.tool_calls or []
        if call.type == "function"
    ]
    return {
        "fields": sorted(choice.message.model_dump(exclude_none=True)),
        "content": choice.message.content,
        "calls": calls,
        "finish_reason": choice.finish_reason,
    }


@pytest.mark.parametrize("question", [CAPITAL, RIVER, "Hello!", "What is two plus two?"])
def test_an_answer_is_the_same_with_and_without_parsers(
    question: str, client: OpenAI, client_without_parsers: OpenAI
) -> None:
    messages = [user(question)]
    with_parser = client.chat.completions.create(model=MODEL, messages=messages)
    without = client_without_parsers.chat.completions.create(model=MODEL, messages=messages)

    assert_no_thought(with_parser, without)
    assert visible(with_parser) == visible(without)


def test_a_tool_call_is_the_same_with_and_without_parsers(
    client: OpenAI, client_without_parsers: OpenAI
) -> None:
    messages, tools = [user(WEATHER)], [WEATHER_TOOL]
    with_parser = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    without = client_without_parsers.chat.completions.create(
        model=MODEL, messages=messages, tools=tools
    )

    assert_no_thought(with_parser, without)
    assert visible(with_parser)["calls"] == [("get_weather", {"city": "Oslo"})]
    assert visible(with_parser) == visible(without)


def test_a_streamed_answer_without_parsers_holds_no_thought(
    client_without_parsers: OpenAI,
) -> None:
    with client_without_parsers.chat.completions.create(
        model=MODEL, messages=[user(RIVER)], stream=True
    ) as stream:
        chunks = list(stream)

    assert_no_thought(*chunks)


def test_a_thought_cut_by_length_shows_nothing_without_parsers(
    client_without_parsers: OpenAI,
) -> None:
    answer = client_without_parsers.chat.completions.create(
        model=MODEL, messages=[user(CAPITAL)], max_tokens=5
    )

    assert_no_thought(answer)
    assert answer.choices[0].message.content == ""
    assert answer.choices[0].finish_reason == "length"
