"""What the gateway does with the thought of a real model: quota, salvage, visibility, seals."""

from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from app.protocol.sealed import Sealer, parse_sealing_keys
from app.settings import MODEL_ID
from tests.engine.conftest import Engine, RunningGateway
from tests.engine.conversation import (
    CAPITAL,
    CAPITAL_ANSWER,
    LIKELIEST,
    MODEL,
    WEATHER,
    WEATHER_ANSWER,
    WEATHER_RESULT,
    WEATHER_TOOL,
    assert_no_thought,
    reasoning_tokens,
    user,
)

FEW_TOKENS = 8  # of the 20 in the thought about a capital


def ask(client: OpenAI, **parameters: object) -> ChatCompletion:
    answer: ChatCompletion = client.chat.completions.create(
        model=MODEL,
        messages=[user(CAPITAL)],
        **parameters,  # type: ignore[call-overload]  # as a client may
    )
    return answer


def test_a_thinking_quota_is_kept_and_the_answer_comes(gateway: RunningGateway) -> None:
    with gateway.client("--max-thinking-tokens", str(FEW_TOKENS)) as client:
        answer = ask(client, extra_body=LIKELIEST)

    assert_no_thought(answer)
    assert 0 < reasoning_tokens(answer.usage) <= FEW_TOKENS + 1
    assert answer.choices[0].message.content


def test_an_answer_that_its_thought_used_up_is_gone_on_with(gateway: RunningGateway) -> None:
    with gateway.client("--salvage-tokens", "64") as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[user(CAPITAL)],
            max_completion_tokens=FEW_TOKENS,
            extra_body=LIKELIEST,
        )
    answer = raw.parse()

    assert_no_thought(answer)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > FEW_TOKENS
    assert gateway.record(raw.headers["x-request-id"])["findings"] == {"rescues": ["salvage"]}


def test_a_visible_thought_stands_beside_the_answer(gateway: RunningGateway) -> None:
    with gateway.client("--reasoning", "visible") as client:
        answer = ask(client)

    message = answer.choices[0].message
    assert message.content is not None
    assert message.content.strip() == CAPITAL_ANSWER
    assert message.model_extra is not None
    assert message.model_extra["reasoning"].strip().startswith("The user asks for the capital")


def test_a_sealed_thought_reaches_the_rendered_prompt_again(
    gateway: RunningGateway, engine: Engine
) -> None:
    with gateway.client("--reasoning", "sealed") as client:
        asked = client.chat.completions.create(
            model=MODEL, messages=[user(WEATHER)], tools=[WEATHER_TOOL]
        )
        assert_no_thought(asked)
        message = asked.choices[0].message
        assert message.tool_calls is not None
        assert message.model_extra is not None
        (detail,) = message.model_extra["reasoning_details"]
        result: ChatCompletionMessageParam = {
            "role": "tool",
            "tool_call_id": message.tool_calls[0].id,
            "content": WEATHER_RESULT,
        }
        turn = message.model_dump(exclude_none=True)
        bare = {name: value for name, value in turn.items() if name != "reasoning_details"}
        with_seal = client.chat.completions.create(
            model=MODEL,
            messages=[user(WEATHER), turn, result],  # type: ignore[list-item]  # not in the SDK's types
            tools=[WEATHER_TOOL],
        )
        without = client.chat.completions.create(
            model=MODEL,
            messages=[user(WEATHER), bare, result],  # type: ignore[list-item]  # not in the SDK's types
            tools=[WEATHER_TOOL],
        )

    # What the client carried, as only the gateway can read it.
    keys = parse_sealing_keys((gateway.home / "sealing-key").read_text())
    sealer = Sealer(keys, seconds=1e9)
    thought = sealer.open(detail["data"], tenant="default", model=MODEL_ID, now=asked.created)
    assert "Oslo" in thought
    turn_with_thought = bare | {"reasoning": thought, "reasoning_content": thought}
    tokens, prompt = engine.render([user(WEATHER), turn_with_thought, result], [WEATHER_TOOL])  # type: ignore[list-item]  # not in the SDK's types
    tokens_without, prompt_without = engine.render([user(WEATHER), bare, result], [WEATHER_TOOL])  # type: ignore[list-item]  # not in the SDK's types

    assert thought.strip() in prompt
    assert thought.strip() not in prompt_without
    assert with_seal.usage is not None
    assert without.usage is not None
    assert with_seal.usage.prompt_tokens == tokens > tokens_without
    assert without.usage.prompt_tokens == tokens_without
    assert with_seal.choices[0].message.content is not None
    assert with_seal.choices[0].message.content.strip() == WEATHER_ANSWER
    assert_no_thought(with_seal, without)
