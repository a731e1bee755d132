"""Records as they stand in the spool: each can be written, and is read as what it was."""

import json
from dataclasses import replace
from enum import IntEnum, StrEnum
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.records import AuditIntent, AuditLevel, AuditOutcome, Outcome
from app.audit.spool.payloads import (
    MAX_RECORD_BYTES,
    BodyPayload,
    ChunkPayload,
    PayloadUnreadable,
    decode_body,
    decode_chunk,
    decode_intent,
    decode_outcome,
    encode_body,
    encode_chunk,
    encode_intent,
    encode_json,
    encode_outcome,
    request_id_of,
)
from app.protocol.events import Usage

INTENT = AuditIntent("req_1", 1_700_000_000.25, "/v1/chat/completions")
OUTCOME = AuditOutcome("req_1", Outcome.COMPLETED, 200)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
odd_texts = st.text(st.characters(codec=None), max_size=30)  # NUL and lone surrogates too
maybe_texts = st.none() | texts
integers = st.integers(-(2**63), 2**64 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | integers | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=4)

intents = st.builds(
    AuditIntent,
    request_id=texts,
    received_at=finite,
    route=texts,
    key_id=maybe_texts,
    tenant=maybe_texts,
    model=maybe_texts,
    stream=st.none() | st.booleans(),
    body_bytes=integers,
    parameters=objects,
    client_ip=maybe_texts,
    user_agent=maybe_texts,
    client_request_id=maybe_texts,
    level=st.sampled_from(AuditLevel),
)
outcomes = st.builds(
    AuditOutcome,
    request_id=texts,
    outcome=st.sampled_from(Outcome),
    status=integers,
    error_code=maybe_texts,
    finish_reason=maybe_texts,
    worker=maybe_texts,
    attempts=integers,
    usage=st.builds(Usage, integers, integers, integers, integers, st.booleans()),
    time_to_first_token_seconds=st.none() | finite,
    duration_seconds=finite,
    findings=objects,
    charged_tokens=st.none() | integers,
    settled_at=st.none() | finite,
    received_at=finite,
    route=texts,
    key_id=maybe_texts,
    tenant=maybe_texts,
    model=maybe_texts,
    content=st.none() | objects,
)


# What `jsonb` refuses, and what looks like it.
tricky = (
    st.sampled_from(["\0", "\ud800", "\udc00\ud800", "\\u0000", "\\\0", "\\\\u0000"]) | odd_texts
)
tricky_values: st.SearchStrategy[Any] = st.recursive(
    tricky | integers | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=8,
)


def cleaned(text: str) -> str:
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    SEVEN = 7


@given(intents)
def test_an_intent_comes_back_as_it_was(intent: AuditIntent) -> None:
    payload = encode_intent(intent)
    assert decode_intent(payload) == intent
    assert request_id_of(payload) == intent.request_id


@given(outcomes)
def test_an_outcome_comes_back_as_it_was(outcome: AuditOutcome) -> None:
    payload = encode_outcome(outcome)
    back = decode_outcome(payload)
    assert back == outcome
    assert type(back.outcome) is Outcome
    assert request_id_of(payload) == outcome.request_id


@given(tricky)
def test_what_jsonb_refuses_in_a_text_is_replaced_and_nothing_else(text: str) -> None:
    intent = replace(INTENT, user_agent=text, parameters={text: [text]})
    assert decode_intent(encode_intent(intent)) == replace(
        INTENT, user_agent=cleaned(text), parameters={cleaned(text): [cleaned(text)]}
    )
    outcome = replace(OUTCOME, findings={text: {"a": text}})
    assert decode_outcome(encode_outcome(outcome)) == replace(
        OUTCOME, findings={cleaned(text): {"a": cleaned(text)}}
    )


@given(tricky_values)
def test_every_payload_is_utf_8_without_what_jsonb_refuses(value: Any) -> None:
    values = orjson.loads(encode_json({"value": value}))
    assert "\0" not in json.dumps(values, ensure_ascii=False)
    refused = [text for text in _texts(values) if cleaned(text) != text]
    assert refused == []


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    return [text for part in value for text in _texts(part)] if isinstance(value, list) else []


@given(texts, objects)
def test_a_body_comes_back_as_it_was(request_id: str, content: dict[str, Any]) -> None:
    body = BodyPayload(request_id, content)
    assert decode_body(encode_body(body)) == body


@given(texts, texts, maybe_texts, objects, st.dictionaries(texts, texts, max_size=3))
def test_a_chunk_comes_back_as_it_was(
    request_id: str,
    tenant: str,
    parent: str | None,
    choices: dict[str, Any],
    thoughts: dict[str, str],
) -> None:
    chunk = ChunkPayload(request_id, tenant, parent, choices, thoughts)
    assert decode_chunk(encode_chunk(chunk)) == chunk


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (float("nan"), None),
        ((1, 2), [1, 2]),
        ({Colour.RED: Colour.RED}, {"red": "red"}),
        ({7: Number.SEVEN}, {"7": 7}),
        (b"\xff", "b'\\xff'"),
    ],
)
def test_what_json_cannot_say_is_kept_as_near_as_may_be(value: object, kept: object) -> None:
    outcome = replace(OUTCOME, findings={"value": value})
    assert decode_outcome(encode_outcome(outcome)).findings == {"value": kept}
    # The same beside a text that takes the slow way.
    odd = replace(OUTCOME, findings={"value": value, "text": "\udead"})
    assert decode_outcome(encode_outcome(odd)).findings == {"value": kept, "text": "\ufffd"}


def test_an_integer_of_a_million_digits_and_a_nest_of_lists_are_written() -> None:
    nest: list[Any] = []
    for _ in range(5000):
        nest = [nest]
    payload = encode_intent(replace(INTENT, parameters={"nest": nest, "number": 1 << 40_000}))
    parameters = decode_intent(payload).parameters
    assert parameters["number"] == hex(1 << 40_000)
    assert b"truncated" in payload


@pytest.mark.parametrize("filler", ["x", "\ud800", "\0"])
def test_a_record_that_is_too_long_is_cut_but_for_its_numbers_and_its_id(filler: str) -> None:
    long = filler * 1_000_000
    intent = replace(INTENT, model=long, body_bytes=7, parameters={long: long})
    payload = encode_intent(intent)
    assert len(payload) <= MAX_RECORD_BYTES
    cut = decode_intent(payload)
    assert cut.model == cleaned(filler) * 512  # wider than its column
    assert cut.parameters == {"truncated": True}
    assert (cut.request_id, cut.received_at, cut.body_bytes) == ("req_1", INTENT.received_at, 7)

    content = {"prompt": "ab" * 32}
    outcome = replace(
        OUTCOME, worker=long, content=content, usage=Usage(1, 2), findings={"a": [long]}
    )
    payload = encode_outcome(outcome)
    assert len(payload) <= MAX_RECORD_BYTES
    assert decode_outcome(payload) == replace(
        outcome, worker=cleaned(filler) * 512, findings={"truncated": True}
    )


def test_content_that_is_too_long_is_cut_too() -> None:
    payload = encode_outcome(replace(OUTCOME, content={"answers": "x" * 1_000_000}))
    assert len(payload) <= MAX_RECORD_BYTES
    assert decode_outcome(payload).content == {"truncated": True}


def test_the_longest_findings_are_kept() -> None:
    findings = {"filter": ["x" * 1000] * 60}
    assert decode_outcome(encode_outcome(replace(OUTCOME, findings=findings))).findings == findings


def test_what_a_newer_gateway_adds_is_left_out() -> None:
    intent = {**orjson.loads(encode_intent(INTENT)), "body_sha256": "ab", "level": "headers"}
    newer_intent = decode_intent(orjson.dumps(intent))
    assert newer_intent.level == "headers"
    assert replace(newer_intent, level=AuditLevel.FULL) == INTENT

    outcome = orjson.loads(encode_outcome(OUTCOME))
    newer = {**outcome, "chain": {"n": 1}, "usage": {**outcome["usage"], "audio_tokens": 9}}
    assert decode_outcome(orjson.dumps(newer)) == OUTCOME
    held = decode_outcome(orjson.dumps({**newer, "outcome": "held_for_review"}))
    assert held.outcome == "held_for_review"
    assert decode_outcome(encode_outcome(held)) == held


def test_what_an_older_gateway_did_not_have_is_at_its_default() -> None:
    assert decode_intent(b'{"request_id":"req_1","received_at":5.0,"route":"/r"}') == AuditIntent(
        "req_1", 5.0, "/r"
    )
    assert decode_outcome(
        b'{"request_id":"req_1","outcome":"completed","status":200}'
    ) == AuditOutcome("req_1", Outcome.COMPLETED, 200)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"{}",
        b'{"request_id":5}',
        b'{"request_id":null,"received_at":1,"route":""}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_record_is_said_to_be_unreadable(payload: bytes) -> None:
    for decode in (decode_intent, decode_outcome, decode_body, decode_chunk, request_id_of):
        with pytest.raises(PayloadUnreadable):
            decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"request_id":"r"}',
        b'{"request_id":"r","outcome":"completed"}',
        b'{"request_id":"r","outcome":7,"status":1}',
        b'{"request_id":"r","outcome":[],"status":1}',
        b'{"request_id":"r","outcome":"completed","status":1,"content":[],"usage":[],"level":7}',
        b'{"request_id":"r","outcome":"completed","status":1,"usage":null}',
    ],
)
def test_a_record_without_what_it_needs_has_still_its_id(payload: bytes) -> None:
    for decode in (decode_intent, decode_outcome, decode_body, decode_chunk):
        with pytest.raises(PayloadUnreadable):
            decode(payload)
    assert request_id_of(payload) == "r"
