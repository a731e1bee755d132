"""Workers that fail in ways that their `/health` does not tell."""

import asyncio
import re
from uuid import uuid4

import pytest

from app.settings import Engine, Settings, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.own_stall import OwnStall
from app.upstream.pool import Pool
from app.upstream.prober import Prober
from app.upstream.watch import Watch
from tests.support.answers import Answer, Break, End, Refusal, vllm_error
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import Response, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 20.0  # only spent on failure
FAULTY: dict[str, Answer | Refusal] = {
    "a reset before the status": Answer(breaks=Break(End.RESET, None)),
    "a reset within": Answer(breaks=Break(End.RESET, 3), pace_seconds=0.01),
    "an end without a finish": Answer(breaks=Break(End.CLOSE, 3)),
    "an error event": Answer(breaks=Break(End.ERROR, 3)),
    "500": vllm_error(500, "no", kind="InternalServerError"),
    "no first byte": Answer(breaks=Break(End.HANG, None)),
}
HARMLESS: dict[str, Refusal] = {
    "400": vllm_error(400, "no"),
    "429": vllm_error(429, "no"),
    "503": vllm_error(503, "no"),
}


def endpoints_of(gateway: RunningGateway) -> list[Endpoint]:
    endpoints: list[Endpoint] = gateway.app.state.gateway.workers.pool.endpoints
    return endpoints


def endpoint_of(gateway: RunningGateway, worker: ScriptedWorker) -> Endpoint:
    return next(each for each in endpoints_of(gateway) if each.url == worker.url)


async def chats(gateway: RunningGateway) -> Response:
    """A conversation of its own: where all have the same, one worker has them all."""
    return await gateway.chat(messages=[{"role": "user", "content": uuid4().hex}])


async def metrics_of(gateway: RunningGateway) -> str:
    return (await gateway.request("GET", "/metrics")).body.decode()


@pytest.mark.parametrize("name", FAULTY)
async def test_a_worker_that_fails_again_and_again_is_left_alone(
    name: str,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
) -> None:
    gateway = await start_gateway(
        worker, second_worker, ejection_faults=2, first_byte_seconds=0.3, retry_share=1.0
    )
    worker.answers(FAULTY[name])
    bad = endpoint_of(gateway, worker)

    async def ejected() -> bool | None:
        await chats(gateway)
        return bad.ejected_until is not None or None

    await eventually_found(ejected, WITHIN_SECONDS * 2, "the worker to be ejected")
    asked = len(worker.requests)
    assert {(await chats(gateway)).status for _ in range(5)} == {200}
    assert len(worker.requests) == asked
    text = await metrics_of(gateway)
    assert re.search(rf'gateway_worker_ejected\{{.*"{bad.name}".*\}} 1.0', text)
    assert re.search(r"gateway_worker_ejections_total\{.*\} 1.0", text)


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_refusal_is_no_fault(
    name: str, start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, second_worker, ejection_faults=1)
    for each in (worker, second_worker):
        each.answers(HARMLESS[name])
    for _ in range(6):
        await chats(gateway)
    assert [each.ejected_until for each in endpoints_of(gateway)] == [None, None]


async def test_a_probe_lets_a_worker_in_again(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker, second_worker, ejection_faults=1, ejection_seconds=0.2, probe_seconds=0.1
    )
    bad = endpoint_of(gateway, worker)
    worker.answers(vllm_error(500, "no", kind="InternalServerError"))
    checks = len(worker.checks)

    async def ejected() -> bool | None:
        await chats(gateway)
        return bad.ejected_until is not None or None

    await eventually_found(ejected, WITHIN_SECONDS, "the worker to be ejected")
    await eventually(lambda: bad.ejected_until is None, WITHIN_SECONDS, "to be let in")
    assert worker.checks[checks].json["max_tokens"] == 1
    assert f'gateway_worker_ejected{{worker="{bad.name}"}} 0.0' in await metrics_of(gateway)


async def test_an_idle_worker_that_hangs_is_found_by_a_probe(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    """Its `/health` and its metrics are as good as ever."""
    gateway = await start_gateway(
        worker,
        second_worker,
        probe_seconds=0.1,
        active_probe_seconds=0.3,
        active_probe_timeout_seconds=0.3,
    )
    worker.check_replies = [Answer(breaks=Break(End.HANG, 0))] * 1_000
    bad = endpoint_of(gateway, worker)
    await eventually(lambda: bad.ejected_until is not None, WITHIN_SECONDS, "an ejection")
    assert endpoint_of(gateway, second_worker).ejected_until is None
    assert bad.ready
    asked = len(worker.requests)
    assert {(await chats(gateway)).status for _ in range(4)} == {200}
    assert len(worker.requests) == asked


async def test_a_worker_that_says_it_is_at_work_is_not_probed(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """For another replica it may be reading a million tokens."""
    gateway = await start_gateway(worker, probe_seconds=0.05, active_probe_seconds=0.1)
    worker.answers(Answer(breaks=Break(End.HANG, 1)))
    asking = {"messages": [{"role": "user", "content": "long"}], "stream": True}
    async with gateway.http.post(f"{worker.url}/v1/chat/completions", json=asking):
        rounds = worker.paths.count("/metrics")
        await eventually(
            lambda: worker.paths.count("/metrics") > rounds + 2, WITHIN_SECONDS, "two rounds"
        )
        checks, rounds = len(worker.checks), worker.paths.count("/metrics")
        await eventually(
            lambda: worker.paths.count("/metrics") > rounds + 6, WITHIN_SECONDS, "six more rounds"
        )
        assert len(worker.checks) == checks


async def test_a_hung_worker_is_ejected_and_what_has_not_begun_goes_elsewhere(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(
        worker, second_worker, inter_token_seconds=2.0, retry_share=1.0, first_byte_seconds=60.0
    )
    bad = endpoint_of(gateway, worker)
    endpoint_of(gateway, second_worker).draining = True
    worker.answers(Answer(breaks=Break(End.HANG, 3)), Answer(breaks=Break(End.HANG, 0)))
    begun = asyncio.ensure_future(gateway.chat(stream=True))
    await worker.received(1)
    unbegun = asyncio.ensure_future(gateway.chat())
    await worker.received(2)
    endpoint_of(gateway, second_worker).draining = False
    stream = (await begun).stream
    assert stream.error is not None
    assert (await unbegun).status == 200
    assert bad.ejected_until is not None
    text = await metrics_of(gateway)
    assert f'worker_ejections_total{{reason="standstill",worker="{bad.name}"}} 1.0' in text
    assert f'worker_timeouts_total{{timeout="between_tokens",worker="{bad.name}"}} 1.0' in text
    assert f'worker_timeouts_total{{timeout="standstill",worker="{bad.name}"}} 1.0' in text


async def test_a_worker_that_says_it_is_at_work_and_does_nothing_is_hung(
    start_gateway: StartGateway, worker: ScriptedWorker, second_worker: ScriptedWorker
) -> None:
    """No answer of it has begun: its KV cache alone shows that it reads no prompt either."""
    gateway = await start_gateway(
        worker, second_worker, inter_token_seconds=1.5, probe_seconds=0.1, first_byte_seconds=60.0
    )
    bad = endpoint_of(gateway, worker)
    endpoint_of(gateway, second_worker).draining = True
    worker.answers(Answer(breaks=Break(End.HANG, 0)))
    worker.kv_usage = 0.25
    asking = asyncio.ensure_future(gateway.chat())
    await worker.received()
    rounds = worker.paths.count("/metrics")

    def has_read_for_long() -> bool:
        worker.kv_usage = 0.25 + worker.paths.count("/metrics") / 1_000
        return worker.paths.count("/metrics") > rounds + 20

    await eventually(has_read_for_long, WITHIN_SECONDS, "twenty rounds of probes")
    assert not bad.ejected_until
    endpoint_of(gateway, second_worker).draining = False
    assert (await asking).status == 200
    assert bad.ejected_until is not None
    assert 'reason="standstill"' in await metrics_of(gateway)


class FrozenWorker(ScriptedWorker):
    """It hangs in its first step, and counts what runs when a step is done."""

    @property
    def running(self) -> int:
        return 0


async def test_a_worker_that_hangs_in_its_first_step_is_found_though_it_says_nothing_runs(
    start_gateway: StartGateway, second_worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.upstream.watch.UNHEARD_SECONDS", 0.0)
    async with FrozenWorker() as worker:
        worker.kv_usage = 0.0
        worker.answers(Answer(breaks=Break(End.HANG, None)))
        gateway = await start_gateway(
            worker,
            second_worker,
            inter_token_seconds=1.0,
            probe_seconds=0.1,
            first_byte_seconds=600.0,
        )
        bad, other = endpoint_of(gateway, worker), endpoint_of(gateway, second_worker)
        other.draining = True
        asking = asyncio.ensure_future(gateway.chat())
        await worker.received()
        other.draining = False
        assert (await asking).status == 200
        assert bad.ejected_until is not None
        assert 'reason="standstill"' in await metrics_of(gateway)


async def test_transformers_gets_no_question_of_ours_beside_a_request(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """It crashes on some that come together. Others are asked again and again while idle."""
    async with ScriptedWorker(Engine.TRANSFORMERS) as last:
        await start_gateway(worker, last, probe_seconds=0.05, active_probe_seconds=0.1)
        checks = len(worker.checks), len(last.checks)
        await eventually(
            lambda: len(worker.checks) > checks[0] + 2, WITHIN_SECONDS, "three active probes"
        )
        assert len(last.checks) == checks[1]


async def test_an_answer_may_not_take_for_ever(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, answer_seconds=0.5, ejection_faults=1)
    worker.answers(Answer(["word "] * 10_000, pace_seconds=0.01))
    response = await gateway.chat()
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    assert "longest" in response.error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert re.search(r'worker_timeouts_total\{timeout="total".*\} 1.0', await metrics_of(gateway))


class Probed:
    """One worker, probed when a test asks for it."""

    def __init__(self, worker: ScriptedWorker, **settings: object) -> None:
        self.settings = Settings.model_validate(settings)
        self.metrics = Metrics()
        self.pool = Pool([WorkerSettings.model_validate(worker.settings())])
        (self.endpoint,) = self.pool.endpoints
        self.watch = Watch(self.pool, self.settings, self.metrics)

    async def __aenter__(self) -> "Probed":
        self.client = WorkerClient(self.settings, self.watch)
        self.prober = Prober(self.pool, self.client, self.settings, self.metrics, self.watch)
        await self.prober.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.prober.close()
        await self.client.__aexit__(None, None, None)


async def test_a_worker_that_was_away_for_a_moment_is_taken_back_as_it_is() -> None:
    async with ScriptedWorker() as worker:
        worker.started_at = 1_790_000_000.25
        async with Probed(worker) as probed:
            generation = probed.endpoint.generation
            await worker.go_away()
            await probed.prober.probe_all()
            assert not probed.endpoint.ready
            await worker.come_back()
            await probed.prober.probe_all()  # one round, and no check
            assert (probed.endpoint.ready, probed.endpoint.verified) == (True, True)
            assert probed.endpoint.generation == generation
            assert len(worker.checks) == 2


@pytest.mark.parametrize("started_at", [1_790_000_009.0, None])
async def test_a_worker_that_was_restarted_or_may_have_been_starts_clean(
    started_at: float | None,
) -> None:
    async with ScriptedWorker() as worker:
        worker.started_at = None if started_at is None else 1_790_000_000.25
        async with Probed(worker) as probed:
            generation = probed.endpoint.generation
            await worker.go_away()
            await probed.prober.probe_all()
            await worker.come_back()
            worker.started_at = started_at
            await probed.prober.probe_all()
            assert not probed.endpoint.ready
            assert probed.endpoint.generation == generation + 1
            await probed.prober.start()
            assert (probed.endpoint.ready, len(worker.checks)) == (True, 4)
            assert probed.endpoint.generation == generation + 1


async def test_a_restart_between_two_probes_is_noticed() -> None:
    async with ScriptedWorker() as worker:
        worker.started_at = 1_790_000_000.25
        async with Probed(worker) as probed:
            generation = probed.endpoint.generation
            worker.started_at = 1_790_000_003.5
            worker.splits = False  # without its parser
            await probed.prober.probe_all()
            assert not probed.endpoint.ready
            assert probed.endpoint.generation == generation + 1
            await probed.prober.start()
            assert not probed.endpoint.ready


async def test_a_worker_that_does_not_answer_in_time_but_goes_on_is_there() -> None:
    async with ScriptedWorker() as worker, Probed(worker, probe_timeout_seconds=1.0) as probed:
        worker.deaf = True
        probing = asyncio.ensure_future(probed.prober.probe_all())
        await eventually(lambda: worker.paths[-1:] == ["/health"], WITHIN_SECONDS, "a probe")
        attempt = probed.watch.attempt(probed.endpoint)
        await asyncio.sleep(0)
        attempt.began()
        await probing
        assert probed.endpoint.ready
        await probed.prober.probe_all()
        assert not probed.endpoint.ready


async def test_a_worker_without_metrics_is_as_good_and_is_not_asked_again() -> None:
    async with ScriptedWorker() as worker:
        worker.has_metrics = False
        async with Probed(worker) as probed:
            await probed.prober.probe_all()
            await probed.prober.probe_all()
            assert probed.endpoint.ready
            assert not probed.endpoint.load.is_known(probed.watch.clock())
            assert worker.paths.count("/metrics") == 1


async def test_what_a_worker_says_of_itself_is_known_to_the_pool() -> None:
    async with ScriptedWorker() as worker, Probed(worker) as probed:
        await probed.prober.probe_all()
        assert probed.endpoint.load.is_known(probed.watch.clock())
        assert not probed.endpoint.load.is_known(probed.watch.clock() + 60)


async def test_a_probe_that_went_unanswered_while_we_were_held_up_is_nobodys_fault() -> None:
    async with ScriptedWorker() as worker, Probed(worker, probe_timeout_seconds=0.3) as probed:
        worker.deaf = True
        probed.watch.own_stall.tick(probed.watch.clock() - 10)
        await probed.prober.probe_all()
        assert probed.endpoint.ready
        probed.watch.own_stall = OwnStall()  # it has caught up
        await probed.prober.probe_all()
        assert not probed.endpoint.ready
