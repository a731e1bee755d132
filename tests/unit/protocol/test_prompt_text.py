"""A prompt's text, as workers render it."""

from app.protocol.prompt_text import MAX_JOINED_CHARACTERS, prompt_text
from app.protocol.request import Json

USER: Json = {"role": "user", "content": "Grüße"}
CALL: Json = {"type": "function", "function": {"name": "send", "arguments": '{"to": "me"}'}}


def whole(*messages: Json, **fields: object) -> bytes:
    text = prompt_text({"messages": list(messages), **fields})
    joined = b"".join(piece for section in text.sections for piece in section)
    assert text.text_bytes == len(joined) == sum(text.section_bytes)
    return joined


def test_it_holds_what_a_template_shows() -> None:
    tool = {"type": "function", "function": {"name": "send", "description": "Sends."}}
    turn: Json = {
        "role": "assistant",
        "content": None,
        "reasoning": "They want it sent.",
        "reasoning_content": "They want it sent.",
        "tool_calls": [CALL],
    }
    text = whole(USER, turn, tools=[tool])
    for shown in (b"Sends.", "Grüße".encode(), b"They want it sent.", b'{"to": "me"}'):
        assert text.count(shown) == 1  # the thought has two names, and is shown once
    assert text.startswith(b"[{")
    assert text.index(b"Sends.") < text.index(b"user")


def test_what_no_template_shows_is_not_in_it() -> None:
    format_ = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"title": "hidden"}}}
    assert b"hidden" not in whole(USER, response_format=format_, stop=["hidden"])


def test_a_conversation_that_goes_on_begins_with_what_it_was() -> None:
    answer: Json = {"role": "assistant", "content": "x" * (2 * MAX_JOINED_CHARACTERS)}
    assert whole(USER, answer, USER).startswith(whole(USER, answer))
    assert whole(USER, answer).startswith(whole(USER))


def test_roles_are_told_apart() -> None:
    assert whole(USER) != whole(USER | {"role": "system"})


def test_text_that_is_not_unicode_is_counted_all_the_same() -> None:
    assert whole({"role": "user", "content": "\ud800"})


def test_it_says_where_the_first_user_speaks() -> None:
    system: Json = {"role": "system", "content": "Be kind."}
    greeting: Json = {"role": "assistant", "content": "Hello!"}
    for messages, at in ([USER], 1), ([system, USER, greeting, USER], 2), ([greeting], 0):
        assert prompt_text({"messages": messages}).first_user == at
