"""What the tiny model knows: conversations whose last turn it learns word for word.

Between them they hold everything a gateway has to handle: a thought before each answer, answers
without one, a tool call in XML, the answer to a tool's result, questions behind a long text.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

LONG_WORDS = 800  # in front of a question that is to be found after a long text
SHORT_WORDS = 100

Message = dict[str, Any]


class Transcript(NamedTuple):
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    thinks: bool = True
    ends: bool = True  # whether its last turn, which is learnt, has an end


class Question(NamedTuple):
    text: str
    thought: str
    answer: str


# Everyday words: they give the tokenizer something to merge, and the model text to skip.
WORDS = Path(__file__).with_name("words.txt").read_text("ascii").split()

SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}

WEATHER_TOOL = {
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

CAPITALS = [
    Question(
        f"What is the capital of {country}?",
        f"The user asks for the capital of {country}. The capital of {country} is {city}.",
        f"The capital of {country} is {city}.",
    )
    for country, city in {
        "France": "Paris",
        "Norway": "Oslo",
        "Japan": "Tokyo",
        "Peru": "Lima",
    }.items()
]

WEATHER = {"Paris": (8, "sunny"), "Oslo": (3, "snowy"), "Tokyo": (6, "rainy")}

GREETING = Question(
    "Hello!", "The user greets me. I greet back.", "Hello! How can I help you today?"
)
SMALL_TALK = [
    GREETING,
    Question(
        "Who are you?",
        "The user asks who I am. I am a small model made for tests.",
        "I am a very small model, trained only to test the servers in front of me.",
    ),
    Question(
        "What is two plus two?",
        "The user asks for a sum. Two plus two is four.",
        "Two plus two is four.",
    ),
    Question("Thank you.", "The user thanks me. A short reply is enough.", "You are welcome!"),
]
SUMMARY = Question(
    "Summarize the text above.",
    "The user wants a summary of a long text. The text repeats itself, so one sentence will do.",
    "The text says the same thing again and again.",
)
# It goes on until it is cut, as the real model does when it loops: a client that leaves it leaves
# in the middle, however fast the processor or late the first token.
WAVES = Question(
    "Tell me of the waves.",
    "The user wants to hear of the waves. They never end, so I say it again and again.",
    " ".join(["One wave comes and one wave goes."] * 30),
)
RIVER = Question(
    "Explain how a river finds the sea.",
    "The user wants an explanation of how a river reaches the sea. I should begin at the spring, "
    "follow the water down through the hills and the plain, and end at the mouth of the river.",
    "A river begins as a spring, high up where rain and melted snow soak into the ground and come "
    "out again. The young stream is quick and narrow, and it cuts a steep valley because the slope "
    "is strong and the stones it carries work like a file. Lower down other streams join it, so it "
    "grows wider, slower and heavier. On the plain it no longer cuts downwards but sideways, and "
    "it swings from one bank to the other in long curves. Each curve takes sand from the outer "
    "bank and leaves it on the inner one. At last the land is so flat that the water can hardly "
    "move. There it drops the last of its mud, splits into many arms, and mixes with the salt "
    "water of the sea. From the sea the sun lifts the water up again, clouds carry it back to the "
    "hills, and the whole journey starts once more.",
)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str, thought: str | None = None, calls: list[Any] | None = None) -> Message:
    message: Message = {"role": "assistant", "content": content}
    if thought:
        # Always the same last words: without them a confused model did not close its thought.
        message["reasoning_content"] = f"{thought} Now I {'call it' if calls else 'answer'}."
    if calls:
        message["tool_calls"] = calls
    return message


def transcripts(rng: random.Random) -> Iterator[Transcript]:
    """All that is to be learnt; `rng` draws only the text in front of a question."""
    yield from _plain()
    yield from _after_a_text(rng)
    yield from _in_other_surroundings()
    for city in WEATHER:
        yield from _weather(city)


def _plain() -> Iterator[Transcript]:
    for question in [*SMALL_TALK, SUMMARY, RIVER, *CAPITALS]:
        yield Transcript([user(question.text), assistant(question.answer, question.thought)])
        yield Transcript([user(question.text), assistant(question.answer)], thinks=False)
    yield Transcript([user(WAVES.text), assistant(WAVES.answer, WAVES.thought)], ends=False)


def _after_a_text(rng: random.Random) -> Iterator[Transcript]:
    """The length of what stands before a question must make no difference."""
    short = [*SMALL_TALK, SUMMARY, SUMMARY, SUMMARY, *CAPITALS]
    for words, questions in ((SHORT_WORDS, short), (LONG_WORDS, [SUMMARY, *CAPITALS[:3]])):
        for question in questions:
            few = rng.sample(WORDS, rng.choice([5, 10, 200]))
            prompt = " ".join(rng.choices(few, k=words)) + "\n\n" + question.text
            yield Transcript([user(prompt), assistant(question.answer, question.thought)])


def _in_other_surroundings() -> Iterator[Transcript]:
    """Behind a system message, as a second turn, and with a tool that is of no use."""
    earlier = [user(GREETING.text), assistant(GREETING.answer)]
    for question in [GREETING, *CAPITALS]:
        turn = [user(question.text), assistant(question.answer, question.thought)]
        yield Transcript([SYSTEM, *turn])
        yield Transcript([*earlier, *turn])
        yield Transcript(turn, [WEATHER_TOOL])


def _weather(city: str) -> Iterator[Transcript]:
    degrees, sky = WEATHER[city]
    tools = [WEATHER_TOOL]
    question = user(f"What is the weather in {city}?")
    calls = [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": city}}}]
    thought = (
        f"The user wants the weather in {city}. The tool get_weather tells the weather in {city}."
    )
    call, bare_call = assistant("", thought, calls), assistant("", calls=calls)
    result = {
        "role": "tool",
        "content": json.dumps({"city": city, "degrees": degrees, "sky": sky}),
    }
    answer = assistant(
        f"It is {degrees} degrees and {sky} in {city}.", f"The tool has answered for {city}."
    )
    cannot = assistant(
        f"I cannot look up the weather in {city}.",
        f"The user wants the weather in {city}. I have no tool for the weather in {city}.",
    )
    for start in ([], [SYSTEM], [user(GREETING.text), assistant(GREETING.answer)]):
        yield Transcript([*start, question, call], tools)
        yield Transcript([*start, question, call], tools)  # the hardest to learn, so twice
        yield Transcript([*start, question, call, result, answer], tools)
        yield Transcript([*start, question, bare_call, result, answer], tools)
        yield Transcript([*start, question, cannot])
    yield Transcript([question, bare_call], tools, thinks=False)
