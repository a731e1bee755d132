"""Workers that fail: another is asked until the model has spoken; then no answer ends quietly."""

import json
from contextlib import AsyncExitStack

import pytest

from tests.support.answers import (
    Answer,
    Break,
    End,
    RawStream,
    Refusal,
    Reply,
    html_error,
    vllm_error,
)
from tests.support.conditions import eventually_found
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

# What engines send while they read a prompt: vLLM comments, Transformers a role, llama.cpp both.
READING = (
    b": keep-alive\n\n"
    b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}, '
    b'"finish_reason": null}]}\n\n'
    b'data: {"choices": [], "prompt_progress": {"total": 9000, "processed": 512}}\n\n'
)

BEFORE_THE_FIRST_WORD: dict[str, Reply] = {
    "a reset before the status": Answer(breaks=Break(End.RESET, None)),
    "an end before the status": Answer(breaks=Break(End.CLOSE, None)),
    "a reset before the first event": Answer(breaks=Break(End.RESET, 0)),
    "an end before the first event": Answer(breaks=Break(End.CLOSE, 0)),
    "a reset after the role": Answer(breaks=Break(End.RESET, 1)),
    "an end after the role": Answer(breaks=Break(End.CLOSE, 1)),
    "an end while it reads": RawStream(READING),
    "429": vllm_error(429, "Too many requests", kind="RateLimitError"),
    "500": vllm_error(500, "CUDA error in /opt/venv", kind="InternalServerError"),
    "503": vllm_error(503, "queue overflow", kind="ServiceUnavailable"),
    "500 in HTML": html_error(500),
    "502 in HTML": html_error(502),
    "503 in HTML": html_error(503),
}
# After so many events the client has the role and "Hello, "; one was the thought.
AFTER = 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", BEFORE_THE_FIRST_WORD)
async def test_a_failure_before_the_first_word_is_retried_elsewhere(
    name: str,
    stream: bool,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
) -> None:
    gateway = await start_gateway(worker, second_worker)
    worker.takes_turns_with(second_worker)
    second_worker.answers(BEFORE_THE_FIRST_WORD[name], Answer(["Hello"]))
    response = await gateway.chat(stream=stream)
    text = response.stream.text() if stream else response.message["content"]
    assert text == "Hello"
    assert (len(worker.requests), len(second_worker.requests)) == (1, 1)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.attempts) == ("completed", 2)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_worker_that_refuses_connections_is_passed_over(
    stream: bool,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
) -> None:
    gateway = await start_gateway(worker, second_worker)
    await worker.go_away()
    for _ in range(4):
        assert (await gateway.chat(stream=stream)).status == 200
    assert len(second_worker.requests) == 4


async def test_one_other_worker_is_tried_and_no_more(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    async with ScriptedWorker() as third:
        workers = (worker, second_worker, third)
        gateway = await start_gateway(*workers)
        for each in workers:
            each.answers(vllm_error(500, "no", kind="InternalServerError"))
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (502, "upstream_error")
        assert sum(len(each.requests) for each in workers) == 2
        row = await gateway.audited(response.request_id)
        assert (row.outcome, row.attempts) == ("failed", 2)


# What the client is told where no other worker is left, and what no other would do better.
STATUSES: dict[str, tuple[Refusal, int, str]] = {
    "400": (vllm_error(400, "SECRET is wrong"), 400, "invalid_value"),
    "401": (Refusal(401, b'{"error": "Unauthorized"}'), 502, "upstream_error"),
    "403": (Refusal(403, b'{"error": "SECRET"}'), 502, "upstream_error"),
    "404": (vllm_error(404, "no model SECRET", kind="NotFoundError"), 502, "upstream_error"),
    "422": (Refusal(422, b'{"detail": "SECRET"}'), 400, "invalid_value"),
    "429": (vllm_error(429, "SECRET"), 503, "server_is_overloaded"),
    "500": (vllm_error(500, "SECRET"), 502, "upstream_error"),
    "503": (vllm_error(503, "SECRET"), 503, "server_is_overloaded"),
    "302": (Refusal(302, b"SECRET"), 502, "upstream_error"),
    "500 in HTML": (html_error(500), 502, "upstream_error"),
    "503 in HTML": (html_error(503), 503, "server_is_overloaded"),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", STATUSES)
async def test_a_workers_status_is_told_in_our_words(
    name: str, stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    reply, status, code = STATUSES[name]
    worker.answers(reply)
    response = await gateway.chat(stream=stream)
    assert (response.status, response.error["code"]) == (status, code)
    assert b"SECRET" not in response.body
    assert b"upstream at" not in response.body
    assert worker.url.encode() not in response.body
    if status == 503:
        assert 1 <= int(response.headers["retry-after"]) <= 60
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("failed", status, code)


async def test_a_busy_worker_stays_in_the_pool(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(vllm_error(503, "full"), vllm_error(429, "full"), Answer())
    statuses = [(await gateway.chat()).status for _ in range(3)]
    assert statuses == [503, 503, 200]


MID_STREAM = {
    "a reset": Break(End.RESET, AFTER),
    "a quiet end": Break(End.CLOSE, AFTER),
    "an error event": Break(End.ERROR, AFTER),
    "garbage": Break(End.GARBAGE, AFTER),
}


@pytest.mark.parametrize("name", MID_STREAM)
async def test_a_failure_after_the_first_byte_is_an_error_event_and_the_end(
    name: str,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
) -> None:
    gateway = await start_gateway(worker, second_worker)
    for each in (worker, second_worker):
        each.answers(Answer(["Hello, ", "there."], breaks=MID_STREAM[name], pace_seconds=0.02))
    response = await gateway.chat(stream=True)
    stream = response.stream
    assert stream.text() == "Hello, "
    assert stream.finish_reasons == []
    assert stream.error is not None
    assert set(stream.error) == {"message", "type", "param", "code"}
    assert (stream.error["type"], stream.error["code"]) == ("server_error", "upstream_error")
    assert b"CUDA" not in response.body
    # Never asked again: the client has part of an answer.
    assert len(worker.requests) + len(second_worker.requests) == 1
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("failed", 502, "upstream_error")
    assert row.attempts == 1
    assert row.finish_reason is None
    assert row.completion_tokens == 2


@pytest.mark.parametrize("name", MID_STREAM)
async def test_a_failure_in_the_middle_makes_a_folded_answer_an_error(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hello", " there."], breaks=MID_STREAM[name]))
    response = await gateway.chat(stream=False)
    assert (response.status, response.error["code"]) == (502, "upstream_error")
    assert b"Hello" not in response.body


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def text_event(text: str, finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return event({"choices": [choice]})


DONE = b"data: [DONE]\n\n"
THOUGHT = event({"choices": [{"index": 0, "delta": {"reasoning": "A greeting."}}]})
NO_ANSWER: dict[str, Reply] = {
    "nothing but the end": RawStream(DONE),
    "an end without a finish reason": RawStream(THOUGHT + text_event("Hello") + DONE),
    "an error event alone": RawStream(event({"error": {"message": "x", "code": 500}}) + DONE),
    "an error that is a text": RawStream(event({"error": "x"}) + DONE),
    "a flat error": RawStream(event({"object": "error", "message": "x", "code": 400}) + DONE),
    "JSON that is no object": RawStream(event([1]) + DONE),
    "choices that are no list": RawStream(event({"choices": 5}) + DONE),
    "a choice that is no object": RawStream(event({"choices": [5]}) + DONE),
    "a choice that was not asked for": RawStream(text_event("x", "stop", index=3) + DONE),
    "text that is no text": RawStream(
        event({"choices": [{"index": 0, "delta": {"content": {"a": 1}}}]}) + DONE
    ),
    "an aborted request": RawStream(text_event("", "abort") + DONE),
    "HTML": RawStream(b"<html>oops</html>"),
    "an event without an end": RawStream(b"data: " + b"x" * (9 * 1024 * 1024)),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", NO_ANSWER)
async def test_what_is_no_answer_is_no_success(
    name: str, stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(NO_ANSWER[name])
    response = await gateway.chat(stream=stream)
    if stream and response.status == 200:
        assert response.stream.error is not None
        assert response.stream.error["code"] == "upstream_error"
        assert response.stream.finish_reasons == []
    else:
        assert (response.status, response.error["code"]) == (502, "upstream_error")
    assert (await gateway.audited(response.request_id)).outcome == "failed"


ODD_BUT_WHOLE: dict[str, bytes] = {
    "the end twice": text_event("Hello", "stop") + DONE + DONE,
    "data after the end": text_event("Hello", "stop") + DONE + text_event("more"),
    "text after the finish reason": text_event("Hello", "stop") + text_event("more") + DONE,
    "two finish reasons": text_event("Hello", "stop") + text_event("", "length") + DONE,
    "no end": text_event("Hello", "stop"),
    "an end without its blank line": text_event("Hello", "stop") + b"data: [DONE]",
    "empty choices": event({"choices": []}) + text_event("Hello", "stop") + DONE,
    "null choices": event({"choices": None}) + text_event("Hello", "stop") + DONE,
    "a null delta": event({"choices": [{"index": 0, "delta": None}]})
    + text_event("Hello", "stop")
    + DONE,
    "other fields": b"event: message\nid: 7\nretry: 3\n" + text_event("Hello", "stop") + DONE,
    "a byte order mark": b"\xef\xbb\xbf" + text_event("Hello", "stop") + DONE,
}


@pytest.mark.parametrize("name", ODD_BUT_WHOLE)
async def test_an_odd_stream_that_is_whole_is_an_answer(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(RawStream(ODD_BUT_WHOLE[name]))
    stream = await gateway.stream()
    assert (stream.text(), stream.finish_reasons) == ("Hello", ["stop"])
    folded = await gateway.chat()
    assert folded.message["content"] == "Hello"


@pytest.mark.parametrize("counts", [(-5, -5), (10**12, 10**12), ("x", None)])
async def test_an_absurd_usage_breaks_nothing(
    counts: tuple[object, object], gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
    worker.answers(
        RawStream(text_event("Hello", "stop") + event({"choices": [], "usage": usage}) + DONE)
    )
    response = await gateway.chat()
    assert response.status == 200
    assert response.json["usage"]["completion_tokens"] >= 0
    assert (await gateway.audited(response.request_id)).outcome == "completed"


async def test_no_available_worker_is_a_503_that_says_when_to_come_back(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    await worker.go_away()
    gateway = await start_gateway(worker)
    for stream in (True, False):
        response = await gateway.chat(stream=stream)
        assert (response.status, response.error["code"]) == (503, "no_available_workers")
        assert response.error["type"] == "service_unavailable_error"
        assert 1 <= int(response.headers["retry-after"]) <= 60
        row = await gateway.audited(response.request_id)
        assert (row.outcome, row.attempts, row.worker) == ("refused", 0, None)


async def test_a_worker_that_comes_back_is_used_again(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, probe_seconds=0.05)
    await worker.go_away()
    first = await gateway.chat()
    assert (first.status, first.error["code"]) in [
        (502, "upstream_error"),
        (503, "no_available_workers"),
    ]
    assert (await gateway.chat()).status == 503
    await worker.come_back()

    async def answered() -> bool | None:
        return True if (await gateway.chat()).status == 200 else None

    await eventually_found(answered, 20.0, "an answer of the worker that came back")


async def test_an_unhealthy_worker_is_not_asked(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    worker.healthy = False
    gateway = await start_gateway(worker, second_worker)
    for _ in range(4):
        assert (await gateway.chat()).status == 200
    assert (len(worker.requests), len(second_worker.requests)) == (0, 4)


async def test_however_alike_requests_are_no_worker_gets_many_more_than_another(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    """They begin alike, so that one worker would be first for all of them."""
    gateway = await start_gateway(worker, second_worker)
    for each in (worker, second_worker):
        each.answers(*[Answer(["word"] * 1000, pace_seconds=0.05)] * 8)
    body = {"model": "qwythos", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with AsyncExitStack() as stack:
        for _ in range(8):
            client = await stack.enter_async_context(gateway.raw())
            await client.post("/v1/chat/completions", gateway.key, body)
            await client.head()
        fewer, more = sorted((len(worker.requests), len(second_worker.requests)))
    assert fewer + more == 8
    assert fewer >= 3


@pytest.mark.parametrize("how", [End.RESET, End.CLOSE])
async def test_an_answer_is_whole_with_its_finish_reason_though_the_worker_dies_then(
    how: End, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """Only the count of its tokens and `[DONE]` are missing."""
    worker.answers(Answer(["Hello"], breaks=Break(how, 4), pace_seconds=0.02))
    stream = await gateway.stream()
    assert (stream.text(), stream.finish_reasons) == ("Hello", ["stop"])
    assert (await gateway.chat()).message["content"] == "Hello"


async def test_text_that_came_together_with_a_failure_is_shown(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """What a client sees does not depend on how the worker's bytes were cut."""
    failure = event({"error": {"message": "x", "type": "InternalServerError", "code": 500}})
    worker.answers(RawStream(THOUGHT + text_event("Hello, th") + failure + DONE))
    stream = await gateway.stream()
    assert stream.text() == "Hello, "  # but for what might have become a match
    assert stream.error is not None
    assert stream.error["code"] == "upstream_error"
