"""How long a first token may take, as a gateway has it from its settings, prompt and worker.

The rule itself: tests/unit/upstream/test_timeouts.py.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.settings import Settings, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.client import WorkerClient
from app.upstream.pool import Pool
from app.upstream.refusals import ConnectFailed
from app.upstream.watch import Watch
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, Json, StartGateway
from tests.support.scripted_worker import ScriptedWorker

# Some 4,000 tokens, for which the floor below leaves more than a minute.
LONG: list[Json] = [{"role": "user", "content": "".join(f"word {n} " for n in range(1_000))}]
IMPATIENT = {"first_byte_seconds": 0.3, "prefill_floor_tokens_per_second": 50.0}
# Longer than the patience with a short prompt, far shorter than with a long one.
SLOW = Answer(["here"], prefill_seconds=2.0)
PATIENCE_SECONDS = 60.0  # only spent on failure


async def test_a_short_prompt_is_given_up_soon(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **IMPATIENT)
    worker.answers(Answer(breaks=Break(End.HANG, None)))
    response = await gateway.chat()
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")


async def test_a_long_prompt_is_waited_for(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **IMPATIENT)
    worker.answers(SLOW)
    response = await gateway.chat(messages=LONG, max_tokens=50)
    assert response.message["content"] == "here"


async def test_a_short_prompt_behind_a_long_one_is_waited_for(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **IMPATIENT)
    worker.answers(Answer(breaks=Break(End.HANG, None)), SLOW)
    async with gateway.raw() as client:
        body = {"model": "qwythos", "messages": LONG, "max_tokens": 50}
        await client.post(CHAT, gateway.key, body)
        await worker.received()
        assert (await gateway.chat()).message["content"] == "here"


async def test_a_short_prompt_behind_those_of_other_replicas_is_waited_for(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    worker.kv_usage, worker.kv_tokens = 0.5, 40_000
    gateway = await start_gateway(worker, probe_seconds=0.1, **IMPATIENT)
    (endpoint,) = gateway.app.state.gateway.workers.pool.endpoints
    await eventually(
        lambda: endpoint.load.others_held > 10_000, PATIENCE_SECONDS, "the worker has said so"
    )
    worker.answers(SLOW)
    assert (await gateway.chat()).message["content"] == "here"


@pytest.fixture
def unanswered() -> Iterator[str]:
    """The URL of a port whose queue is full, so that the kernel lets no connection come about."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


async def test_a_connection_may_not_take_as_long_as_a_prompt(unanswered: str) -> None:
    settings = Settings(connect_seconds=0.2)
    pool = Pool([WorkerSettings.model_validate({"url": unanswered})])
    async with WorkerClient(settings, Watch(pool, settings, Metrics())) as client:
        with pytest.raises(ConnectFailed) as caught:
            await client.open(
                pool.endpoints[0],
                b"{}",
                request_id="req_1",
                first_byte_seconds=PATIENCE_SECONDS,
            )
    assert caught.value.unreachable
