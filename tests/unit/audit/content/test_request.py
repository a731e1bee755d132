"""A request taken apart: what is stored of it, and what it refers to."""

import orjson
import pytest

from app.api.parse import parse_chat, parse_completion
from app.audit.content.compression import MAX_BODY_BYTES
from app.audit.content.nodes import ROOT, read_message_payload
from app.audit.content.stored_today import SECONDS_PER_DAY
from app.audit.spool.frames import MAX_PAYLOAD_BYTES
from app.settings import Settings
from tests.unit.audit.content.asked import Process, assistant, json_of, read, text_of, user

SETTINGS = Settings()
SYSTEM = {"role": "system", "content": "Be brief."}


def test_the_first_turn_stores_its_messages_and_the_rest_of_its_body() -> None:
    process = Process()
    content = process.ask(SYSTEM, user("hi"), temperature=0.5)
    system, question, envelope = process.store(content)
    assert json_of(system) == SYSTEM
    assert json_of(question) == user("hi")
    assert json_of(envelope) == {"model": "qwythos", "temperature": 0.5}
    assert (system.parent, question.parent, envelope.parent) == (ROOT, system.address, ROOT)
    assert content.content == {
        "envelope": envelope.address.hex(),
        "prompt": question.address.hex(),
        "messages": 2,
        "conversation": question.address.hex(),
    }


def test_the_next_turn_stores_what_is_new() -> None:
    process = Process()
    first = process.ask(SYSTEM, user("hi"))
    process.store(first)
    second = process.ask(SYSTEM, user("hi"), assistant("Hello."), user("bye"))
    assert [json_of(message) for message in process.store(second)] == [
        assistant("Hello."),
        user("bye"),
    ]
    assert second.content["conversation"] == first.content["conversation"]
    assert second.content["envelope"] == first.content["envelope"]
    assert process.conversation(second) == [SYSTEM, user("hi"), assistant("Hello."), user("bye")]


def test_the_same_request_again_stores_nothing() -> None:
    process = Process()
    first = process.ask(SYSTEM, user("hi"))
    process.store(first)
    again = process.ask(SYSTEM, user("hi"))
    assert again.payloads == ()
    assert again.content == first.content


def test_what_a_failed_append_was_to_store_is_stored_by_the_next_request() -> None:
    process = Process()
    process.ask(SYSTEM, user("hi"))  # never marked
    retried = process.ask(SYSTEM, user("hi"))
    assert len(process.store(retried)) == 3
    assert process.conversation(retried) == [SYSTEM, user("hi")]


def test_a_conversation_that_branches_shares_its_beginning() -> None:
    process = Process()
    process.store(process.ask(SYSTEM, user("hi"), assistant("Hello."), user("one")))
    branch = process.ask(SYSTEM, user("hi"), assistant("Hello."), user("two"))
    assert [json_of(message) for message in process.store(branch)] == [user("two")]
    changed = process.ask(SYSTEM, user("ho"), assistant("Hello."), user("one"))
    assert len(process.store(changed)) == 3  # what follows another message is another message
    assert process.conversation(branch)[-1] == user("two")


def test_each_day_stores_all_that_its_requests_refer_to() -> None:
    process = Process()
    process.store(process.ask(SYSTEM, user("hi")))
    process.now += SECONDS_PER_DAY
    process.stored.clear()  # the day is dropped
    later = process.ask(SYSTEM, user("hi"), assistant("Hello."), user("bye"))
    process.store(later)
    assert len(process.conversation(later)) == 4


def test_what_was_taken_apart_before_midnight_is_not_known_after_it() -> None:
    process = Process()
    content = process.ask(SYSTEM, user("hi"))
    process.now += SECONDS_PER_DAY
    process.store(content)
    assert len(process.ask(SYSTEM, user("hi")).payloads) == 3


def test_a_process_that_forgets_stores_again_and_loses_nothing() -> None:
    process = Process(entries=4)
    turns = [user("0")]
    for turn in range(1, 50):
        content = process.ask(*turns)
        process.store(content)
        assert process.conversation(content) == turns
        turns += [assistant(f"a{turn}"), user(f"u{turn}")]


def test_tenants_share_nothing() -> None:
    process = Process()
    process.store(process.ask(user("hi")))
    other = process.ask(user("hi"), tenant="other")
    assert len(other.payloads) == 2
    assert {message.tenant for message in read(other.payloads)} == {"other"}


def test_the_order_of_fields_makes_no_other_message() -> None:
    process = Process()
    process.store(process.ask({"role": "user", "content": "hi"}))
    assert process.ask({"content": "hi", "role": "user"}).payloads == ()


def test_a_null_field_makes_no_other_message() -> None:
    process = Process()
    process.store(process.ask(user("hi"), {**assistant("Hello."), "refusal": None}, user("bye")))
    assert process.ask(user("hi"), assistant("Hello."), user("bye")).payloads == ()


def test_a_prompt_of_the_older_route_is_one_message() -> None:
    process = Process()
    content = process.take({"model": "qwythos", "prompt": "Once upon", "max_tokens": 5})
    prompt, envelope = process.store(content)
    assert json_of(prompt) == {"prompt": "Once upon"}
    assert json_of(envelope) == {"model": "qwythos", "max_tokens": 5}
    assert content.content["messages"] == 1
    assert content.content["conversation"] == prompt.address.hex()


def test_the_body_that_was_sent_is_not_changed() -> None:
    sent = {"model": "m", "messages": [{**user("hi"), "name": None}]}
    before = orjson.dumps(sent)
    Process().take(sent)
    assert orjson.dumps(sent) == before


def assistant_with(annotation: bytes) -> bytes:
    """A body whose last message has it as its only annotation, the field that may hold anything."""
    return (
        b'{"model":"m","messages":[{"role":"user","content":"q"},'
        b'{"role":"assistant","content":"x","annotations":[{"a":%s}]}]}' % annotation
    )


@pytest.mark.parametrize(
    "value",
    [
        rb'"\u0000\u0001\u2028\ufffe\ud83d\ude00 e\u0301 \u007f"',
        '"\U0010ffff\u2029\u0085\u200b"'.encode(),
        b'""',
        b"[18446744073709551615, 18446744073709551616, -9223372036854775809, 1e308, -0.0, 5e-324]",
        rb'{"\u0000":{},"":[],"\ud83d\ude00":null,"\uffff":true}',
        b'{"b":1,"a":2,"b":3}',
    ],
    ids=["escapes", "characters", "empty", "numbers", "names", "name-twice"],
)
def test_whatever_the_edge_takes_is_stored(value: bytes) -> None:
    body = assistant_with(value)
    process = Process()
    content = process.take(dict(parse_chat(body, SETTINGS).sent))
    process.store(content)
    assert process.conversation(content) == orjson.loads(body)["messages"]


@pytest.mark.parametrize("depth", [200, 250, 254, 255, 500, 1_000])
def test_what_is_nested_as_deep_as_the_edge_reads_is_stored(depth: int) -> None:
    value = b'[{"a":1,"b":' * (depth // 2) + b"0" + b"}]" * (depth // 2)
    content = Process().take(dict(parse_chat(assistant_with(value), SETTINGS).sent))
    assert any(value in text_of(message) for message in read(content.payloads))


def test_ten_thousand_messages_are_stored() -> None:
    sent = orjson.dumps({"model": "m", "messages": [user(str(n)) for n in range(10_000)]})
    process = Process(entries=100_000)
    content = process.take(dict(parse_chat(sent, SETTINGS).sent))
    process.store(content)
    assert content.content["messages"] == len(process.conversation(content)) == 10_000


LARGEST = SETTINGS.max_body_bytes
FILLED = b'{"model":"m","prompt":"%s"}'
NUMBERS = (
    b'{"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"",'
)
NUMBERS += b'"annotations":[{"a":[%s0]}]}]}'


@pytest.mark.parametrize("unit", [b"x", "€".encode(), b"\\u0001", b'\\"', b"\\n"])
def test_the_largest_body_fits_into_a_frame(unit: bytes) -> None:
    body = FILLED % (unit * ((LARGEST - len(FILLED)) // len(unit)))
    request = parse_completion(body, SETTINGS)
    content = Process().take(dict(request.sent))
    assert max(map(len, content.payloads)) <= MAX_PAYLOAD_BYTES
    prompt = read_message_payload(content.payloads[0])
    assert prompt.intact
    assert json_of(prompt)["prompt"] == orjson.loads(body)["prompt"]


def test_numbers_that_grow_when_they_are_written_out_fit_too() -> None:
    unit = b"1e15,"
    body = NUMBERS % (unit * ((LARGEST - len(NUMBERS)) // len(unit)))
    content = Process().take(dict(parse_chat(body, SETTINGS).sent))
    assert max(map(len, content.payloads)) <= MAX_PAYLOAD_BYTES
    longest = max(map(read_message_payload, content.payloads), key=lambda m: len(text_of(m)))
    assert 3 * LARGEST < len(text_of(longest)) <= MAX_BODY_BYTES
    assert longest.intact
