"""The thought never reaches the client, however a worker sends it, and is counted all the same."""

from dataclasses import replace

import pytest

from app.settings import Engine, Separation
from tests.support.answers import Answer, Framing, RawStream, ToolCall
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

NONCE = "NONCE7f3a"
THOUGHT = ("I think ", NONCE, " aloud \u2028 and ", NONCE, ".")
ANSWER = Answer(["\n\nHello", " there."], reasoning=THOUGHT)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("separation", Separation)
@pytest.mark.parametrize("engine", [Engine.VLLM, Engine.SGLANG, Engine.TRANSFORMERS])
async def test_thought_never_reaches_the_client(
    engine: Engine, separation: Separation, stream: bool, start_gateway: StartGateway
) -> None:
    async with ScriptedWorker(engine, separation=separation) as worker:
        gateway = await start_gateway(worker)
        worker.answers(replace(ANSWER, inline=separation is Separation.INLINE))
        options = {"include_usage": True} if stream else None
        response = await gateway.chat(stream=stream, stream_options=options)
        assert NONCE not in response.body.decode()
        assert b"think" not in response.body
        assert b"reasoning" not in response.body.replace(b"reasoning_tokens", b"")
        text = response.stream.text() if stream else response.message["content"]
        usage = response.stream.usage if stream else response.json["usage"]
        assert text == "Hello there."
        assert usage is not None
        assert usage["completion_tokens_details"]["reasoning_tokens"] >= 4


@pytest.mark.parametrize("stream", [True, False])
async def test_split_tag_over_every_chunk_boundary(
    stream: bool, start_gateway: StartGateway
) -> None:
    text = f"{NONCE} 1 < 2 </thin </think>\n\nHello </there."
    async with ScriptedWorker(separation=Separation.INLINE) as worker:
        gateway = await start_gateway(worker)
        cuts = [[text[:at], text[at:]] for at in range(1, len(text))]
        for pieces in [[text], list(text), *cuts]:
            worker.answers(Answer(pieces))
            response = await gateway.chat(stream=stream)
            shown = response.stream.text() if stream else response.message["content"]
            assert shown == "Hello </there.", pieces


@pytest.mark.parametrize("stream", [True, False])
async def test_a_thought_cut_by_the_token_limit_stays_hidden(
    stream: bool, start_gateway: StartGateway
) -> None:
    async with ScriptedWorker(separation=Separation.INLINE) as worker:
        gateway = await start_gateway(worker)
        worker.answers(Answer([], reasoning=THOUGHT, inline=True, finish="length"))
        response = await gateway.chat(stream=stream, stream_options=None)
        assert NONCE not in response.body.decode()
        if stream:
            assert (response.stream.text(), response.stream.finish_reasons) == ("", ["length"])
        else:
            assert response.json["choices"][0]["finish_reason"] == "length"
            assert response.message["content"] == ""


LEAKS = {
    "a whole thought": [f"<think>{NONCE}</think>Hello there."],
    "a late thought": ["Hello", " there.<thi", f"nk>{NONCE}</think>"],
    "a thought without an end": ["Hello there.", "<think>", NONCE],
}


@pytest.mark.parametrize("name", LEAKS)
async def test_a_thought_that_the_workers_parser_lets_through_is_hidden(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(LEAKS[name], reasoning=["A first thought."]))
    response = await gateway.chat(stream=True)
    assert NONCE not in response.body.decode()
    assert response.stream.text() == "Hello there."


async def test_fields_that_nobody_asked_for_are_dropped(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """A new field of a new engine must not open a new way out."""
    names = ("refusal", "annotations", "reasoning_details", "thinking", "audio")
    fields = [(name, NONCE) for name in names]
    worker.answers(replace(ANSWER, extra_delta_fields=fields))
    for stream in (True, False):
        assert NONCE not in (await gateway.chat(stream=stream)).body.decode()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_thought_before_a_tool_call_stays_hidden(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    call = ToolCall("get_time", ["{}"])
    worker.answers(Answer([], reasoning=THOUGHT, tool_calls=[call], finish="tool_calls"))
    tool = {"type": "function", "function": {"name": "get_time"}}
    response = await gateway.chat(stream=stream, tools=[tool])
    assert NONCE not in response.body.decode()
    assert b"get_time" in response.body


async def test_nothing_of_a_worker_but_its_answer_is_passed_on(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    """Ids, fingerprints, token ids and log probabilities tell of the worker and of the thought."""
    chunk = (
        '{"id":"chatcmpl-INNER","model":"/models/INNER","system_fingerprint":"INNER",'
        '"prompt_token_ids":["INNER"],"choices":[{"index":0,"delta":{"content":"Hello"},'
        '"logprobs":{"content":[{"token":"INNER"}]},"token_ids":["INNER"],'
        '"finish_reason":"stop","stop_reason":"INNER"}],"kv_transfer_params":"INNER"}'
    )
    worker.answers(RawStream(f"data: {chunk}\n\ndata: [DONE]\n\n".encode()))
    for stream in (True, False):
        response = await gateway.chat(stream=stream)
        assert response.status == 200
        assert b"INNER" not in response.body


FRAMINGS = {
    "CRLF": Framing(line_end=b"\r\n"),
    "CR": Framing(line_end=b"\r"),
    "one byte at a time": Framing(write_bytes=1),
    "CRLF, one byte at a time": Framing(line_end=b"\r\n", write_bytes=1),
    "all at once": Framing(at_once=True),
    "comments between": Framing(comments=True),
    "no [DONE]": Framing(done=False),
}


@pytest.mark.parametrize("name", FRAMINGS)
async def test_the_answer_does_not_depend_on_how_it_was_framed(
    name: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    text = "Gr\u00fc\u00dfe \u2028 \u0085 \U0001f600\r\n"
    worker.answers(Answer([text, "there."], reasoning=THOUGHT, framing=FRAMINGS[name]))
    response = await gateway.chat(stream=True)
    assert response.stream.text() == text + "there."
    assert response.stream.finish_reasons == ["stop"]
    assert NONCE not in response.body.decode()
