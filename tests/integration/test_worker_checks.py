"""A worker gets no request before it was seen to split thoughts off as it declares."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.settings import Engine, Separation, Settings, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.pool import Pool
from app.upstream.prober import Prober
from tests.support.answers import Answer, Break, End, RawStream, Refusal, ToolCall, vllm_error
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 20.0  # only spent on failure

engines = pytest.mark.parametrize(
    "engine", [Engine.VLLM, Engine.SGLANG, Engine.LLAMACPP, Engine.OPENAI]
)
separations = pytest.mark.parametrize("separation", Separation)


async def metrics_of(gateway: RunningGateway) -> str:
    return (await gateway.request("GET", "/metrics")).body.decode()


@engines
@separations
async def test_one_that_does_as_it_declares_is_ready(
    engine: Engine, separation: Separation, start_gateway: StartGateway
) -> None:
    async with ScriptedWorker(engine, separation=separation) as worker:
        gateway = await start_gateway(worker)
        assert (await gateway.request("GET", "/readyz")).status == 200
        assert len(worker.checks) == 2
        assert worker.requests == []
        name = worker.url.removeprefix("http://")
        assert f'gateway_worker_check_total{{outcome="ok",worker="{name}"}} 1.0' in (
            await metrics_of(gateway)
        )


@separations
async def test_one_that_does_otherwise_gets_no_request_and_says_why(
    separation: Separation,
    start_gateway: StartGateway,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with ScriptedWorker(separation=separation) as worker:
        worker.splits = False
        gateway = await start_gateway(worker)
        assert (await gateway.request("GET", "/readyz")).status == 503
        assert (await gateway.chat()).status == 503
        assert worker.requests == []
        other = "inline" if separation is Separation.PARSER else "parser"
        assert f"separation '{other}'" in capsys.readouterr().out


async def test_one_that_was_mended_is_looked_at_again(start_gateway: StartGateway) -> None:
    async with ScriptedWorker() as worker:
        worker.splits = False
        gateway = await start_gateway(worker, probe_seconds=0.05, worker_check_retry_seconds=0.05)
        assert (await gateway.request("GET", "/readyz")).status == 503
        worker.splits = True

        async def ready() -> bool | None:
            return (await gateway.request("GET", "/readyz")).status == 200 or None

        await eventually_found(ready, 20.0, "the worker to be ready")


async def test_one_that_comes_back_is_checked_again(start_gateway: StartGateway) -> None:
    async with ScriptedWorker() as worker:
        gateway = await start_gateway(worker, probe_seconds=0.05)
        await worker.go_away()

        async def gone() -> bool | None:
            return (await gateway.request("GET", "/readyz")).status == 503 or None

        await eventually_found(gone, 20.0, "the worker to be missed")
        worker.splits = False  # it was started anew, without its parser
        checks = len(worker.checks)
        await worker.come_back()

        async def checked() -> bool | None:
            return len(worker.checks) > checks or None

        await eventually_found(checked, 20.0, "a check")
        assert (await gateway.request("GET", "/readyz")).status == 503


async def test_other_workers_serve_in_the_meantime(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    second_worker.splits = False
    gateway = await start_gateway(worker, second_worker)
    for _ in range(4):
        assert (await gateway.chat()).status == 200
    assert (len(worker.requests), len(second_worker.requests)) == (4, 0)


@pytest.mark.parametrize("check", ["warn", "off"])
async def test_one_that_is_taken_nevertheless_is_believed_less(
    check: str, start_gateway: StartGateway
) -> None:
    """An answer without a thought may be one that nobody split off."""
    async with ScriptedWorker() as worker:
        worker.splits = False
        gateway = await start_gateway(worker, worker_check=check)
        worker.answers(Answer(["SECRET thought, or an answer?"], reasoning=()))
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (502, "empty_answer")
        assert b"SECRET" not in response.body
        worker.answers(Answer(["Hello"], reasoning=["I greet."]))
        assert (await gateway.chat()).message["content"] == "Hello"
        assert len(worker.checks) == (1 if check == "warn" else 0)


async def test_an_answer_without_a_thought_is_believed_of_a_checked_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["Hello"], reasoning=()))
    assert (await gateway.chat()).message["content"] == "Hello"
    worker.answers(Answer(["Perhaps a thou"], reasoning=(), finish="length"))
    cut = await gateway.chat()
    assert (cut.message["content"], cut.json["choices"][0]["finish_reason"]) == ("", "length")


async def test_a_worker_that_can_do_it_is_found_among_others(start_gateway: StartGateway) -> None:
    async with (
        ScriptedWorker(separation=Separation.INLINE) as inline,
        ScriptedWorker() as parser,
    ):
        gateway = await start_gateway(inline, parser)
        for _ in range(4):
            response = await gateway.chat(response_format={"type": "json_object"})
            assert response.status == 200
        assert (len(inline.requests), len(parser.requests)) == (0, 4)


async def test_what_no_worker_can_do_is_refused_by_name(start_gateway: StartGateway) -> None:
    async with ScriptedWorker(separation=Separation.INLINE) as worker:
        gateway = await start_gateway(worker)
        response = await gateway.chat(response_format={"type": "json_object"})
        assert response.status == 400
        assert response.error["param"] == "response_format"
        assert response.error["code"] == "unsupported_parameter"


@asynccontextmanager
async def probing(
    *workers: ScriptedWorker, **settings: object
) -> AsyncIterator[tuple[Prober, list[Endpoint]]]:
    """The prober alone: a round is made when a test asks for it."""
    configured = Settings.model_validate(settings)
    pool = Pool([WorkerSettings.model_validate(worker.settings()) for worker in workers])
    async with WorkerClient(configured) as client:
        prober = Prober(pool, client, configured, Metrics())
        try:
            yield prober, pool.endpoints
        finally:
            await prober.close()


async def rounds_until(prober: Prober, endpoint: Endpoint, *, ready: bool) -> None:
    async def found() -> bool | None:
        await prober.probe_all()
        return endpoint.ready is ready or None

    await eventually_found(found, WITHIN_SECONDS, f"ready: {ready}")


# Word for word from vLLM 0.32, which has sent the status line by then.
NO_PARSER = {
    "message": "thinking_token_budget is set but reasoning_config is not configured. Please set "
    "--reasoning-parser and/or --reasoning-config to use thinking_token_budget.",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
REFUSALS = {
    "within the stream": RawStream(
        b"data: %s\n\ndata: [DONE]\n\n" % json.dumps({"error": NO_PARSER}).encode()
    ),
    "before it": Refusal(400, json.dumps({"error": NO_PARSER}).encode()),
}


@pytest.mark.parametrize("where", REFUSALS)
async def test_a_worker_without_its_reasoning_parser_refuses_the_quota_and_that_is_understood(
    where: str, capsys: pytest.CaptureFixture[str], start_gateway: StartGateway
) -> None:
    async with ScriptedWorker() as worker:
        worker.check_replies = [REFUSALS[where]]
        gateway = await start_gateway(worker)
        assert (await gateway.request("GET", "/readyz")).status == 503
        text = await metrics_of(gateway)
        assert re.search(r'gateway_worker_check_total\{outcome="failed".*\} 1.0', text)
        out = capsys.readouterr().out
        assert "worker_check_failed" in out
        assert "--reasoning-parser qwen3" in out


async def test_a_long_thought_in_the_text_is_no_answer_that_broke_off(
    capsys: pytest.CaptureFixture[str], start_gateway: StartGateway
) -> None:
    """More of it has come than is looked at of an answer behind a thought."""
    thought = ["The user asks for a sum, ", "and I can tell that it is small. ", "It is four."]
    async with ScriptedWorker() as worker:
        worker.check_replies = [Answer(thought, (), pace_seconds=0.01)]
        await start_gateway(worker)
        assert "worker_check_failed" in capsys.readouterr().out


async def test_a_thought_in_the_text_of_an_answer_with_tools_refuses_the_worker(
    start_gateway: StartGateway,
) -> None:
    async with ScriptedWorker() as worker:
        leaking = Answer(["< Think >Paris</think>Sunny."], ["The weather."])
        worker.check_replies = [Answer(["Four."]), leaking]
        gateway = await start_gateway(worker)
        assert (await gateway.request("GET", "/readyz")).status == 503


IN_TEXT = "<tool_call>\n<function=get_weather>\n</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        (Answer((), tool_calls=[ToolCall("get_weather", ["{}"])], finish="tool_calls"), "parsed"),
        (Answer([IN_TEXT]), "in_text"),
        (Answer(["I do not know."]), "none"),
        (Answer(breaks=Break(End.ERROR, 1)), "none"),
        (vllm_error(500, "no", kind="InternalServerError"), None),
        (Answer(breaks=Break(End.RESET, 1)), None),
    ],
)
async def test_how_a_worker_calls_tools_is_noted_and_refuses_none(
    reply: Answer | Refusal, calls: str | None
) -> None:
    async with ScriptedWorker() as worker, probing(worker) as (prober, (endpoint,)):
        worker.check_replies = [Answer(["Four."]), reply]
        await prober.start()
        assert (endpoint.ready, endpoint.verified, endpoint.calls) == (True, True, calls)


async def test_transformers_is_asked_for_no_call() -> None:
    async with ScriptedWorker(Engine.TRANSFORMERS) as worker, probing(worker) as (prober, (one,)):
        await prober.start()
        assert (one.ready, one.calls, len(worker.checks)) == (True, None, 1)


async def test_each_question_has_an_id_of_its_own_and_fits_a_small_context() -> None:
    async with (
        ScriptedWorker(max_model_len=400) as worker,
        probing(worker) as (prober, (endpoint,)),
    ):
        await prober.start()
        assert endpoint.ready
        first, second = worker.checks
        assert first.header("x-request-id") != second.header("x-request-id")
        assert first.json["max_tokens"] == 200
        assert first.json["thinking_token_budget"] == 100
        assert first.json["stream"] is True


UNDECIDED = {
    "busy": vllm_error(503, "full", kind="ServiceUnavailable"),
    "too many": vllm_error(429, "full", kind="RateLimitError"),
    "a server error": vllm_error(500, "no", kind="InternalServerError"),
    "an error event": Answer(breaks=Break(End.ERROR, 1)),
    "a reset": Answer(breaks=Break(End.RESET, None)),
    "a reset within": Answer(breaks=Break(End.RESET, 1)),
    "no JSON": Answer(breaks=Break(End.GARBAGE, 1)),
    "silence": Answer(breaks=Break(End.HANG, 1)),
}


@pytest.mark.parametrize("name", UNDECIDED)
async def test_one_that_could_not_be_asked_is_asked_again_at_the_next_probe(name: str) -> None:
    async with ScriptedWorker() as worker:
        settings = {"worker_check_retry_seconds": 3600.0, "worker_check_seconds": 0.2}
        async with probing(worker, **settings) as (prober, (endpoint,)):
            worker.check_replies = [UNDECIDED[name]]
            await prober.start()
            assert not endpoint.ready
            await rounds_until(prober, endpoint, ready=True)
            assert endpoint.verified


async def test_one_that_failed_is_not_asked_again_at_once() -> None:
    async with (
        ScriptedWorker() as worker,
        probing(worker, worker_check_retry_seconds=3600.0) as (prober, (endpoint,)),
    ):
        worker.splits = False
        for _ in range(4):
            await prober.start()
        assert (endpoint.ready, len(worker.checks)) == (False, 1)
        worker.model = "another"  # by its card no longer the one that failed
        worker.splits = True
        await rounds_until(prober, endpoint, ready=True)


async def test_another_model_is_another_worker() -> None:
    async with ScriptedWorker() as worker, probing(worker) as (prober, (endpoint,)):
        await prober.start()
        await prober.start()
        assert (endpoint.ready, len(worker.checks)) == (True, 2)
        worker.model, worker.splits = "another", False
        await prober.probe_all()
        assert not endpoint.ready
        await eventually(lambda: len(worker.checks) == 3, WITHIN_SECONDS, "a check")
        await prober.start()
        assert (endpoint.ready, endpoint.verified) == (False, False)


async def test_why_it_is_not_ready_is_told_when_the_reason_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else the log would go on to say that it cannot be reached."""
    async with ScriptedWorker() as worker, probing(worker) as (prober, (endpoint,)):
        await worker.go_away()
        await prober.start()
        assert "worker_not_ready" in capsys.readouterr().out
        worker.splits = False
        await worker.come_back()
        await prober.start()
        assert not endpoint.ready
        assert "declare separation 'inline'" in capsys.readouterr().out


async def test_with_warn_one_that_could_not_be_asked_serves_and_is_asked_again() -> None:
    async with (
        ScriptedWorker() as worker,
        probing(worker, worker_check="warn") as (prober, (endpoint,)),
    ):
        worker.check_replies = [UNDECIDED["busy"]]
        await prober.start()
        assert (endpoint.ready, endpoint.verified) == (True, False)
        await prober.start()
        assert (endpoint.ready, endpoint.verified) == (True, True)


async def test_a_long_check_holds_up_neither_probes_nor_the_end() -> None:
    hang = Answer(breaks=Break(End.HANG, 1))
    async with ScriptedWorker() as slow, ScriptedWorker() as fast:
        slow.check_replies = [hang]
        async with probing(slow, fast) as (prober, (first, second)):
            await prober.probe_all()
            await eventually(lambda: second.ready, WITHIN_SECONDS, "the other worker")
            await eventually(lambda: len(slow.checks) == 1, WITHIN_SECONDS, "the check")
            await prober.probe_all()
            assert slow.paths.count("/health") == 2
            assert (first.ready, len(slow.checks)) == (False, 1)
        await slow.closed(slow.checks[0], within=WITHIN_SECONDS)


async def test_a_worker_that_goes_while_it_is_checked_is_not_ready() -> None:
    async with ScriptedWorker() as worker, probing(worker) as (prober, (endpoint,)):
        worker.check_replies = [Answer(breaks=Break(End.HANG, 1))]
        await prober.probe_all()
        await eventually(lambda: len(worker.checks) == 1, WITHIN_SECONDS, "the check")
        worker.healthy = False
        await prober.probe_all()
        await worker.closed(worker.checks[0], within=WITHIN_SECONDS)
        assert not endpoint.ready
        worker.healthy = True
        await rounds_until(prober, endpoint, ready=True)


async def test_a_model_that_does_not_think_is_taken_where_that_is_declared(
    start_gateway: StartGateway,
) -> None:
    async with ScriptedWorker(separation=Separation.INLINE) as worker:
        gateway = await start_gateway(workers=[worker.settings() | {"thinks": False}])
        worker.answers(Answer(["Hello", " there."], reasoning=()))
        stream = await gateway.stream(response_format={"type": "json_object"})
        assert stream.text() == "Hello there."
        worker.answers(Answer(["<think>SECRET</think>\n\nHello"], reasoning=()))
        assert (await gateway.chat()).message["content"] == "Hello"
