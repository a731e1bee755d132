"""What was answered, and how the next turn meets it."""

from typing import Any

import orjson

from app.audit.content.answers import answer_content, answers_of
from app.audit.content.redaction import Redaction, masking
from app.protocol.events import TextDelta, ToolCallDelta
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from app.protocol.transcript import Transcript
from tests.unit.audit.content.asked import (
    ADDRESSES,
    TENANT,
    Process,
    assistant,
    json_of,
    read,
    user,
)

WORD = Rule("t.word", "zebra", 5, replacement="[animal]")


def answered(*events: Any, n: int = 1, thoughts: dict[int, str] | None = None) -> dict[int, Any]:
    transcript = Transcript(n)
    transcript.feed(events)
    return transcript.messages(thoughts)


def test_an_answer_follows_what_was_asked() -> None:
    prompt = Process().ask(user("hi")).content["prompt"]
    messages = answered(TextDelta(0, "Hel"), TextDelta(0, "lo."))
    content = answer_content(messages, TENANT, prompt, ADDRESSES, Redaction())
    (answer,) = read(content.payloads)
    assert json_of(answer) == assistant("Hello.")
    assert answer.parent.hex() == prompt
    assert content.answers == {"0": answer.address.hex()}


def test_each_choice_is_an_answer_of_its_own() -> None:
    prompt = Process().ask(user("hi")).content["prompt"]
    messages = answered(TextDelta(1, "b"), TextDelta(0, "a"), n=3)
    content = answer_content(messages, TENANT, prompt, ADDRESSES, Redaction())
    answers = {message.address.hex(): message for message in read(content.payloads)}
    assert [json_of(answers[content.answers[choice]]) for choice in "012"] == [
        assistant("a"),
        assistant("b"),
        assistant(""),
    ]


def test_the_next_turn_refers_to_the_answer() -> None:
    process = Process()
    first = process.ask(user("hi"))
    process.store(first)
    call = ToolCallDelta(0, 0, "{}", "call_1", "f")
    messages = answered(TextDelta(0, "Let me see."), call)
    content = answer_content(messages, TENANT, first.content["prompt"], ADDRESSES, Redaction())
    sent_back = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    second = process.ask(user("hi"), messages[0], sent_back)
    process.store(second)
    assert content.answers["0"] in {address.hex() for address in process.stored}


def test_an_answer_is_redacted_as_it_is_when_it_is_sent_back() -> None:
    redaction = Redaction(masking(FilterRules([(WORD, Action.BLOCK)])))
    process = Process(redaction=redaction)
    first = process.ask(user("hi"))
    messages = answered(TextDelta(0, "A zebra."))
    content = answer_content(messages, TENANT, first.content["prompt"], ADDRESSES, redaction)
    assert json_of(read(content.payloads)[0]) == assistant("A [animal].")
    process.store(process.ask(user("hi"), assistant("A zebra."), user("bye")))
    assert content.answers["0"] in {address.hex() for address in process.stored}


def test_a_thought_is_kept_where_it_is_given() -> None:
    messages = answered(TextDelta(0, "Yes."), thoughts={0: "Is it? It is."})
    content = answer_content(messages, TENANT, None, ADDRESSES, Redaction())
    (answer,) = read(content.payloads)
    assert json_of(answer) == {**assistant("Yes."), "reasoning": "Is it? It is."}


def test_a_recovered_answer_has_the_address_that_it_would_have_had() -> None:
    redaction = Redaction(masking(FilterRules([(WORD, Action.BLOCK)])))
    prompt = Process().ask(user("hi")).content["prompt"]
    messages = answered(TextDelta(0, "A zebra."))
    content = answer_content(messages, TENANT, prompt, ADDRESSES, redaction)
    body = orjson.dumps(messages[0])
    recovered = answers_of(ADDRESSES, redaction)(TENANT, bytes.fromhex(prompt), body)
    assert recovered == (bytes.fromhex(content.answers["0"]), content.payloads[0])
