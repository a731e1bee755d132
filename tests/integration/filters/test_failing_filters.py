"""Whatever goes wrong while text is held back: it does not leave."""

import pytest

from app.protocol.filters.rule import Rule
from tests.integration.filters.conftest import Logged
from tests.integration.filters.samples import ADDRESS, use_rule
from tests.support.answers import Answer, Break, End, ToolCall
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker
from tests.support.sse_events import read_stream

NONCE = "NONCE7f3a"
TEXT = ["The word is ", *NONCE, " and ", "more."]
TOOL = {"type": "function", "function": {"name": "send"}}


def failing(text: str) -> bool:
    raise ValueError(f"invalid literal: {text!r}")  # as int() says it


FAILING_RULE = Rule("acme.word", pattern="NONCE[0-9a-f]{4}", bound=9, valid=failing)


# -- a scanner that raises


async def test_a_scanner_that_raises_ends_the_stream_closed(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    worker.answers(Answer(TEXT, pace_seconds=0.002))
    response = await gateway.chat(stream=True)
    stream = response.stream
    assert stream.text() == "The word is "
    assert stream.finish_reasons == []
    assert stream.error is not None
    assert stream.error["type"] == "server_error"
    assert NONCE[:2] not in response.body.decode()
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("crashed", 500, "internal_error")
    assert NONCE not in str(row)


async def test_a_scanner_that_raises_fails_a_folded_answer(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    worker.answers(Answer(TEXT))
    response = await gateway.chat()
    assert (response.status, response.error["code"]) == (500, "internal_error")
    assert NONCE[:2] not in response.body.decode()


async def test_a_scanner_that_raises_lets_no_call_out(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    call = ToolCall("send", ['{"text": "', *NONCE, '"}'])
    worker.answers(Answer(["Sending."], tool_calls=[call], finish="tool_calls", pace_seconds=0.002))
    response = await gateway.chat(stream=True, tools=[TOOL])
    assert response.stream.text() == "Sending."
    assert response.stream.error is not None
    assert response.stream.tool_calls == []
    assert NONCE not in response.body.decode()


async def test_a_scanner_that_raises_stops_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    worker.answers(Answer([*TEXT, *[f"word {n} " for n in range(10_000)]], pace_seconds=0.002))
    assert (await gateway.stream()).error is not None
    await worker.closed(worker.only, within=1.0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_scanner_that_raises_over_a_prompt_lets_it_reach_no_worker(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    for filler in ("", "word " * 10_000):  # looked at in the loop, and in a thread
        messages = [{"role": "user", "content": f"{filler} {NONCE}"}]
        response = await gateway.chat(stream=stream, messages=messages)
        assert (response.status, response.error["code"]) == (500, "internal_error")
    assert worker.requests == []


async def test_a_scanner_that_raises_is_logged_without_the_text(
    logged: Logged, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    worker.answers(Answer(TEXT))
    response = await gateway.chat()
    assert response.status == 500
    (line,) = logged.named("request_crashed")
    assert line["request_id"] == response.request_id
    assert NONCE not in logged.text


# -- a worker that fails while text is held


HELD = ["Write to ", ADDRESS[:14]]  # all of an address but its last letters
EVENTS = 4  # the role, the thought, and these


@pytest.mark.parametrize("how", [End.RESET, End.CLOSE, End.ERROR, End.GARBAGE])
async def test_a_worker_that_fails_does_not_free_what_is_held(
    how: End, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(HELD, breaks=Break(how, after=EVENTS), pace_seconds=0.01))
    stream = await gateway.stream()
    assert stream.text() == "Write to "
    assert stream.error is not None


async def test_a_worker_that_falls_silent_does_not_free_what_is_held(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, inter_token_seconds=0.3)
    worker.answers(Answer(HELD, breaks=Break(End.HANG, after=EVENTS)))
    stream = await gateway.stream()
    assert stream.text() == "Write to "
    assert stream.error is not None


async def test_no_clock_frees_what_is_held(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker,
        commit_after_seconds=0.01,
        keep_alive_comment_seconds=0.02,
        empty_delta_seconds=0.06,
    )
    worker.answers(Answer(HELD, breaks=Break(End.HANG, after=EVENTS)))
    received = b""
    async with gateway.raw() as client:
        await client.post(
            CHAT, gateway.key, {"model": "qwythos", "messages": HELLO, "stream": True}
        )
        await client.head()
        while read_stream(received, whole=False).comments < 10:
            received += await client.chunk()
    assert read_stream(received, whole=False).text() == "Write to "


async def test_the_older_route_fails_closed_too(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    use_rule(gateway, FAILING_RULE)
    worker.answers(Answer(TEXT, pace_seconds=0.002))
    body = b'{"model":"qwythos","prompt":"Hi","stream":true}'
    response = await gateway.request("POST", "/v1/completions", body=body)
    assert response.stream.error is not None
    assert NONCE[:2] not in response.body.decode()
