"""What is not kept."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.audit.content.nodes import check_address
from app.audit.content.redaction import NOT_REDACTED, Redaction, masking
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from app.store.secrets import mint_secret
from tests.unit.audit.content.asked import Process, assistant, json_of, text_of, user

EMAIL = Rule("t.email", r"[a-z]{1,9}@[a-z]{1,9}\.org", 24, replacement="[email]")
WORD = Rule("t.word", "zebra", 5, replacement="[animal]")
ROLE = Rule("t.role", "user|assistant|content|function|text", 9, replacement="[word]")
SECRET = mint_secret(b"pepper").secret
MASKING = masking(FilterRules([(EMAIL, Action.MASK), (WORD, Action.BLOCK)]))


def redacted(message: dict[str, Any], rules: FilterRules | None = None) -> Any:
    return orjson.loads(Redaction(rules).masked(message))


def test_a_secret_of_ours_is_never_kept() -> None:
    assert redacted(user(f"my key is {SECRET}!")) == user("my key is sk-qw-***!")
    call = {"function": {"name": "f", "arguments": orjson.dumps({"key": SECRET}).decode()}}
    kept = Redaction().masked({"role": "assistant", "tool_calls": [call], SECRET: [SECRET]})
    assert SECRET.encode() not in kept
    assert orjson.loads(kept)["tool_calls"][0]["function"]["arguments"] == '{"key":"sk-qw-***"}'


def test_without_rules_all_else_is_kept() -> None:
    assert redacted(user("bob@example.org")) == user("bob@example.org")
    assert redacted(user("bob@example.org"), FilterRules([])) == user("bob@example.org")


@pytest.mark.parametrize("action", list(Action))
def test_a_match_is_masked_whatever_its_rule_does_elsewhere(action: Action) -> None:
    rules = masking(FilterRules([(EMAIL, action)]))
    assert redacted(user("to bob@example.org"), rules) == user("to [email]")


def test_the_rules_of_questions_and_of_answers_are_one_set() -> None:
    rules = masking(FilterRules([(EMAIL, Action.FLAG)]), FilterRules([(WORD, Action.BLOCK)]))
    assert redacted(user("zebra@example.org, a zebra"), rules) == user("[email], a [animal]")


def test_every_part_of_a_message_is_searched() -> None:
    sent = {
        "role": "user",
        "content": [{"type": "text", "text": "a zebra"}],
        "name": "zebra",
    }
    assert redacted(sent, MASKING) == {
        "role": "user",
        "content": [{"type": "text", "text": "a [animal]"}],
        "name": "[animal]",
    }


def test_arguments_are_read_as_the_json_that_they_are() -> None:
    arguments = '{"to": "bob\\u0040example.org", "zebra": 1}'
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    shown = redacted({"role": "assistant", "tool_calls": [call]}, MASKING)["tool_calls"][0]
    assert (shown["id"], shown["type"]) == ("c", "function")
    assert orjson.loads(shown["function"]["arguments"]) == {"to": "[email]", "[animal]": 1}


def test_arguments_that_were_cut_are_searched_as_a_text() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "zebra'}}
    shown = redacted({"role": "assistant", "tool_calls": [call]}, MASKING)["tool_calls"][0]
    assert shown["function"]["arguments"] == '{"a": "[animal]'


def test_words_of_the_protocol_are_not_masked() -> None:
    rules = masking(FilterRules([(ROLE, Action.MASK)]))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":"user"}'}}
    shown = redacted({"role": "assistant", "content": "user", "tool_calls": [call]}, rules)
    assert shown == {
        "role": "assistant",
        "content": "[word]",
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":"[word]"}'},
            }
        ],
    }


def test_what_cannot_be_searched_is_not_stored_and_told() -> None:
    failures: list[Exception] = []
    too_deep: Any = "zebra"
    for _ in range(1_000):
        too_deep = [too_deep]
    body = Redaction(MASKING, failures.append).masked({"role": "user", "content": too_deep})
    assert body == NOT_REDACTED
    assert len(failures) == 1


def test_a_message_that_cannot_be_searched_takes_no_other_with_it() -> None:
    too_deep: Any = 0
    for _ in range(1_000):
        too_deep = [too_deep]
    process = Process(redaction=Redaction(MASKING))
    content = process.ask(user("a zebra"), {"role": "assistant", "a": too_deep}, user("bye"))
    process.store(content)
    assert process.conversation(content) == [
        user("a [animal]"),
        orjson.loads(NOT_REDACTED),
        user("bye"),
    ]


def test_addresses_are_those_of_what_is_stored() -> None:
    process = Process(redaction=Redaction(MASKING))
    content = process.ask(user("a zebra"), user=f"zebra {SECRET}")
    question, envelope = process.store(content)
    for message in (question, envelope):
        assert check_address(message.salt, message.parent, text_of(message), message.address)
    assert json_of(envelope) == {"model": "qwythos", "user": "[animal] sk-qw-***"}


def test_a_masked_conversation_is_stored_once_too() -> None:
    process = Process(redaction=Redaction(MASKING))
    first = process.ask(user("a zebra"))
    process.store(first)
    again = process.ask(user("a zebra"))
    assert again.payloads == ()
    assert again.content == first.content
    second = process.ask(user("a zebra"), assistant("A zebra?"), user("Yes."))
    process.store(second)
    assert second.content["conversation"] == first.content["conversation"]
    assert process.conversation(second) == [
        user("a [animal]"),
        assistant("A [animal]?"),
        user("Yes."),
    ]


def test_what_was_searched_today_is_not_searched_again() -> None:
    searched: list[str] = []

    def note(match: str) -> bool:
        searched.append(match)
        return True

    rules = masking(FilterRules([(replace(WORD, valid=note), Action.MASK)]))
    process = Process(redaction=Redaction(rules))
    process.store(process.ask(user("a zebra")))
    searched.clear()
    process.store(process.ask(user("a zebra"), assistant("Yes."), user("More.")))
    assert searched == []
    process.ask(user("a zebra"), assistant("Yes."), user("More."), user("zebra"))
    assert searched


def test_a_conversation_whose_beginning_was_forgotten_is_whole_all_the_same() -> None:
    process = Process(entries=4, redaction=Redaction(MASKING))
    turns = [{"role": "system", "content": "zebra 0"}, user("zebra 1")]
    first = process.ask(*turns)
    process.store(first)
    for turn in range(2, 30):
        turns += [assistant(f"zebra {turn}"), user(f"zebra {turn}")]
        process.store(process.ask(user(f"another zebra {turn}")))
        content = process.ask(*turns)
        process.store(content)
        assert len(process.conversation(content)) == len(turns)
        assert content.content["conversation"] == first.content["conversation"]
