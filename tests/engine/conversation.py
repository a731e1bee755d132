"""What the tiny model was trained on, and what is asked of an answer whatever it says.

Answers are certain also when sampled as the model card says, which is the gateway's default. Far
from what it was trained on they are not: of a hundred there, one or two say nothing.
"""

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam
from pydantic import BaseModel

MODEL = "qwythos"

CAPITAL = "What is the capital of France?"
CAPITAL_ANSWER = "The capital of France is Paris."
RIVER = "Explain how a river finds the sea."  # some 220 tokens of answer
RIVER_END = "the whole journey starts once more."
WAVES = "Tell me of the waves."  # its answer goes round until it is cut
WEATHER = "What is the weather in Oslo?"
WEATHER_ANSWER = "It is 3 degrees and snowy in Oslo."
WEATHER_RESULT = '{"city": "Oslo", "degrees": 3, "sky": "snowy"}'
WEATHER_TOOL: ChatCompletionFunctionToolParam = {
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

# As `extra_body` of a request: always the same answer, and no luck.
LIKELIEST: dict[str, object] = {"top_k": 1}

# Of every thought that the model has: each begins with the one and ends with the other.
THOUGHT_MARKS = ("The user ", "Now I ", "think>", '"reasoning"', "reasoning_content")


def user(text: str) -> ChatCompletionUserMessageParam:
    return {"role": "user", "content": text}


def assert_no_thought(*answers: BaseModel) -> None:
    for answer in answers:
        dump = answer.model_dump_json()
        for mark in THOUGHT_MARKS:
            assert mark not in dump


def reasoning_tokens(usage: CompletionUsage | None) -> int:
    assert usage is not None
    assert usage.completion_tokens_details is not None
    return usage.completion_tokens_details.reasoning_tokens or 0
