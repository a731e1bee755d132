"""Which requests of a spool have not ended, and what was kept of them."""

import orjson
import pytest

from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import FrameKind
from app.audit.spool.open_requests import MAX_ANSWER_BYTES, OpenRequest, OpenRequests
from app.audit.spool.payloads import (
    BodyPayload,
    ChunkPayload,
    PayloadUnreadable,
    encode_body,
    encode_chunk,
    encode_intent,
    encode_outcome,
)

PROMPT = "ab" * 32


def fed(*records: str, requests: OpenRequests | None = None) -> OpenRequests:
    """`"+a"`: the intent of a; `"-a"`: its outcome; `"=a"`: its body; `"a:text"`: a chunk."""
    requests = OpenRequests() if requests is None else requests
    for record in records:
        sign, request_id = record[0], record[1:]
        if sign == "+":
            requests.feed(FrameKind.INTENT, encode_intent(AuditIntent(request_id, 0.0, "/r")))
        elif sign == "-":
            outcome = AuditOutcome(request_id, Outcome.COMPLETED, 200)
            requests.feed(FrameKind.OUTCOME, encode_outcome(outcome))
        elif sign == "=":
            body = BodyPayload(request_id, {"prompt": PROMPT})
            requests.feed(FrameKind.BODY, encode_body(body))
        else:
            request_id, text = record.split(":", 1)
            say(requests, request_id, choices={"0": text})
    return requests


def say(requests: OpenRequests, request_id: str, **values: object) -> None:
    chunk = {"tenant": "t", "parent": PROMPT, "choices": {}, "thoughts": {}, **values}
    requests.feed(FrameKind.CHUNK, orjson.dumps({"request_id": request_id, **chunk}))


def ids(requests: OpenRequests) -> list[str]:
    return [request.request_id for request in requests]


def only(requests: OpenRequests) -> OpenRequest:
    (request,) = requests
    return request


def contents(requests: OpenRequests) -> dict[int, object]:
    answer = only(requests).answer
    assert answer is not None
    return {choice: message["content"] for choice, message in answer.messages().items()}


def test_an_intent_is_open_until_its_outcome() -> None:
    assert ids(fed()) == []
    assert ids(fed("+a", "+b")) == ["a", "b"]
    assert ids(fed("+a", "+b", "-a")) == ["b"]
    assert ids(fed("+a", "+b", "-a", "-b")) == []


def test_an_outcome_without_its_intent_is_none_of_them() -> None:
    assert ids(fed("-a", "+b")) == ["b"]


def test_what_was_asked_and_said_is_kept_until_the_outcome() -> None:
    request = only(fed("+a", "=a", "a:Hel", "+b", "b:x", "a:lo", "-b"))
    assert request.intent == AuditIntent("a", 0.0, "/r")
    assert request.content == {"prompt": PROMPT}
    assert request.answer is not None
    assert (request.answer.tenant, request.answer.parent) == ("t", bytes.fromhex(PROMPT))
    assert not request.answer.truncated
    assert contents(fed("+a", "a:Hel", "a:lo")) == {0: "Hello"}


def test_what_belongs_to_no_open_request_is_not_kept() -> None:
    assert ids(fed("=a", "a:x", "-a")) == []
    assert only(fed("a:x", "=a", "+a")) == OpenRequest("a", AuditIntent("a", 0.0, "/r"))


def test_only_choices_that_said_something_have_an_answer() -> None:
    requests = fed("+a")
    say(requests, "a", choices={"2": "two"})
    assert contents(requests) == {2: "two"}


def test_thoughts_are_kept_where_the_chunks_have_them() -> None:
    requests = fed("+a")
    for piece in ("I ", "think"):
        chunk = ChunkPayload("a", "t", None, {}, {"0": piece})
        requests.feed(FrameKind.CHUNK, encode_chunk(chunk))
    say(requests, "a", choices={"0": "so"})
    answer = only(requests).answer
    assert answer is not None
    assert answer.messages()[0]["reasoning"] == "I think"
    assert answer.messages()[0]["content"] == "so"


def test_an_answer_is_kept_up_to_its_bound() -> None:
    requests = fed("+a")
    piece = "x" * (MAX_ANSWER_BYTES // 3 - 200)
    for _ in range(3):
        say(requests, "a", choices={"0": piece})
    answer = only(requests).answer
    assert answer is not None
    assert not answer.truncated
    say(requests, "a", choices={"0": piece})
    say(requests, "a", choices={"0": "behind a gap"})
    assert answer.truncated
    assert contents(requests) == {0: piece * 3}


@pytest.mark.parametrize("kind", [FrameKind.INTENT, FrameKind.OUTCOME, FrameKind.BODY])
def test_a_record_without_a_request_is_refused(kind: FrameKind) -> None:
    with pytest.raises(PayloadUnreadable):
        OpenRequests().feed(kind, b"{}")


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": []},
        {"choices": {"-1": "x"}},
        {"choices": {"128": "x"}},
        {"choices": {"99999999": "x"}},
        {"choices": {"one": "x"}},
        {"choices": {"0": 7}},
        {"choices": {"0": {"text": "x"}}},
        {"thoughts": {"0": 7}},
        {"parent": "no address"},
        {"parent": "abcd"},
        {"parent": 7},
        {"tenant": None},
    ],
)
def test_a_chunk_that_is_none_is_refused(odd: dict[str, object]) -> None:
    requests = fed("+a")
    with pytest.raises(PayloadUnreadable):
        say(requests, "a", **odd)
    assert only(requests).intent is not None


def test_events_of_a_newer_gateway_are_passed_over() -> None:
    requests = fed("+a")
    for kind in (*FrameKind, 99):
        if kind not in (FrameKind.INTENT, FrameKind.OUTCOME, FrameKind.BODY, FrameKind.CHUNK):
            requests.feed(kind, b"anything")
    assert ids(requests) == ["a"]
