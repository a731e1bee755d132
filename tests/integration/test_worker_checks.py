"""A worker gets no request before it was seen to split thoughts off as it declares."""

import pytest

from app.settings import Engine, Separation
from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

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
        assert worker.checks == 2
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

        await eventually_found(ready, 5.0, "the worker to be ready")


async def test_one_that_comes_back_is_checked_again(start_gateway: StartGateway) -> None:
    async with ScriptedWorker() as worker:
        gateway = await start_gateway(worker, probe_seconds=0.05)
        await worker.go_away()

        async def gone() -> bool | None:
            return (await gateway.request("GET", "/readyz")).status == 503 or None

        await eventually_found(gone, 5.0, "the worker to be missed")
        worker.splits = False  # it was started anew, without its parser
        checks = worker.checks
        await worker.come_back()

        async def checked() -> bool | None:
            return worker.checks > checks or None

        await eventually_found(checked, 5.0, "a check")
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
        assert worker.checks == (1 if check == "warn" else 0)


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
