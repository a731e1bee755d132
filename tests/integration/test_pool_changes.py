"""Workers that come and go while requests run: no stream is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.settings import SettingsError
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import Response, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 60.0  # only spent on failure
TOKEN = "an-admin-token"
WORKERS = "/admin/v1/workers"
LONG = Answer(content=[f"{number}, " for number in range(30)], pace_seconds=0.01)
WHOLE = "".join(LONG.content)
STANDS_AFTER = 10  # events
RELOADED = {"workers_reload_seconds": 0.02}


async def chats(gateway: RunningGateway, **fields: Any) -> Response:
    """A conversation of its own: where all have the same, one worker has them all."""
    return await gateway.chat(messages=[{"role": "user", "content": uuid4().hex}], **fields)


async def admin(
    gateway: RunningGateway, method: str, path: str = "", body: dict[str, Any] | None = None
) -> Response:
    data = None if body is None else json.dumps(body).encode()
    return await gateway.request(method, WORKERS + path, body=data, key=TOKEN)


async def states(gateway: RunningGateway) -> dict[str, str]:
    listed = (await admin(gateway, "GET")).json["data"]
    return {worker["name"]: worker["state"] for worker in listed}


def name_of(worker: ScriptedWorker) -> str:
    return worker.url.removeprefix("http://")


def names(gateway: RunningGateway) -> set[str]:
    return {endpoint.name for endpoint in gateway.app.state.gateway.workers.pool.endpoints}


async def ready(gateway: RunningGateway, *workers: ScriptedWorker) -> None:
    """These and no others are there, and take requests."""

    def all_ready() -> bool:
        endpoints = gateway.app.state.gateway.workers.pool.endpoints
        there = {each.name for each in endpoints if each.ready and not each.draining}
        return there == {name_of(worker) for worker in workers}

    await eventually(all_ready, WITHIN_SECONDS, "the workers are ready")


@pytest.fixture
def go_on() -> asyncio.Event:
    """Until then `long` stands still, whatever a test does meanwhile, and however long it takes."""
    return asyncio.Event()


@pytest.fixture
def long(go_on: asyncio.Event) -> Answer:
    return replace(LONG, until=go_on, until_after=STANDS_AFTER)


@pytest.fixture
async def streaming(
    start_gateway: StartGateway, worker: ScriptedWorker, long: Answer, go_on: asyncio.Event
) -> AsyncIterator[tuple[RunningGateway, asyncio.Task[Response]]]:
    """A long answer is coming from `worker`, the only one so far."""
    worker.answers(long)
    gateway = await start_gateway(worker, admin_token=TOKEN)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(chats(gateway, stream=True))
        await worker.received()
        yield gateway, task
        go_on.set()
        await task


async def test_a_worker_is_replaced_by_another_and_its_stream_comes_to_its_end(
    streaming: tuple[RunningGateway, asyncio.Task[Response]],
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
    go_on: asyncio.Event,
) -> None:
    gateway, stream = streaming
    added = await admin(gateway, "POST", body=second_worker.settings())
    assert (added.status, added.json["source"]) == (201, "admin")
    await ready(gateway, worker, second_worker)
    leaving = await admin(gateway, "DELETE", f"/{name_of(worker)}")
    assert (leaving.json["state"], leaving.json["requests"]) == ("leaving", 1)
    for _ in range(4):
        assert (await chats(gateway)).status == 200
    assert len(second_worker.requests) == 4
    go_on.set()
    assert (await stream).stream.text() == WHOLE
    await eventually(lambda: names(gateway) == {name_of(second_worker)}, WITHIN_SECONDS, "it left")


async def test_a_drained_worker_ends_its_stream_and_gets_nothing_until_it_is_resumed(
    streaming: tuple[RunningGateway, asyncio.Task[Response]],
    worker: ScriptedWorker,
    go_on: asyncio.Event,
) -> None:
    gateway, stream = streaming
    drained = await admin(gateway, "POST", f"/{name_of(worker)}/drain")
    assert (drained.status, drained.json["state"]) == (200, "draining")
    refused = await chats(gateway)
    assert (refused.status, refused.error["code"]) == (503, "no_available_workers")
    assert (await gateway.request("GET", "/readyz")).status == 503
    go_on.set()
    assert (await stream).stream.text() == WHOLE
    assert await states(gateway) == {name_of(worker): "draining"}
    resumed = await admin(gateway, "POST", f"/{name_of(worker)}/resume")
    assert resumed.json["state"] == "ready"
    worker.answers(Answer())
    assert (await chats(gateway)).status == 200


async def test_a_request_that_waits_goes_to_a_worker_that_is_added(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
    long: Answer,
    go_on: asyncio.Event,
) -> None:
    worker.answers(long)
    only_one = worker.settings() | {"max_concurrency": 1}
    gateway = await start_gateway(workers=[only_one], admin_token=TOKEN)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(chats(gateway, stream=True))
        await worker.received()
        second = tasks.create_task(chats(gateway))
        await admin(gateway, "POST", body=second_worker.settings())
        assert (await second).status == 200
        assert not first.done()
        go_on.set()
    assert len(second_worker.requests) == 1
    assert first.result().stream.text() == WHOLE


async def test_a_file_is_followed_without_losing_a_stream(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
    tmp_path: Path,
    long: Answer,
    go_on: asyncio.Event,
) -> None:
    path = tmp_path / "workers.json"
    listed(path, worker)
    worker.answers(long)
    gateway = await start_gateway(workers=[], workers_file=path, **RELOADED)
    async with asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(chats(gateway, stream=True))
        await worker.received()
        listed(path, second_worker)
        await ready(gateway, second_worker)
        assert (await chats(gateway)).status == 200
        assert not stream.done()
        go_on.set()
    assert stream.result().stream.text() == WHOLE
    await eventually(lambda: names(gateway) == {name_of(second_worker)}, WITHIN_SECONDS, "it left")


async def test_traffic_goes_on_while_the_file_changes_again_and_again(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
    tmp_path: Path,
) -> None:
    """One worker is always named, and one comes and goes."""
    path = tmp_path / "workers.json"
    for each in (worker, second_worker):
        each.answers(Answer(content=["a", "b", "c"], pace_seconds=0.01))
    listed(path, worker, second_worker)
    gateway = await start_gateway(workers=[], workers_file=path, probe_seconds=0.05, **RELOADED)
    await ready(gateway, worker, second_worker)
    over = False

    async def client() -> list[Response]:
        answers = []
        while not over:
            answers.append(await chats(gateway, stream=True))
        return answers

    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(client()) for _ in range(4)]
        for _ in range(3):
            listed(path, worker)
            await ready(gateway, worker)
            listed(path, worker, second_worker)
            await ready(gateway, worker, second_worker)
        over = True
    answers = [answer for each in clients for answer in each.result()]
    assert len(answers) >= 4
    assert all(answer.stream.text() == "abc" for answer in answers)


async def test_the_workers_behind_a_name_are_found(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """The name is one that every machine has, with the address on which the worker listens."""
    url = worker.url.replace("127.0.0.1", "localhost")
    gateway = await start_gateway(workers=[], workers_dns=url, admin_token=TOKEN)
    assert (await chats(gateway)).status == 200
    (found,) = (await admin(gateway, "GET")).json["data"]
    assert (found["name"], found["source"]) == (name_of(worker), "dns")
    refused = await admin(gateway, "DELETE", f"/{name_of(worker)}")
    assert (refused.status, refused.error["code"]) == (409, "worker_is_named")


async def test_without_an_answer_of_the_name_server_the_gateway_waits_for_workers(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(workers=[], workers_dns="http://nobody.invalid:8000")
    assert (await gateway.request("GET", "/healthz")).status == 200
    assert (await gateway.request("GET", "/readyz")).status == 503
    assert (await chats(gateway)).error["code"] == "no_available_workers"


async def test_a_gateway_does_not_start_on_a_bad_list(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    path = tmp_path / "workers.yaml"
    write(path, "- {url: 'http://w:1', engine: none}")
    with pytest.raises(SettingsError, match=r"GATEWAY_WORKERS_FILE: \[0\]\[engine\]: "):
        await start_gateway(workers=[], workers_file=path)
    with pytest.raises(SettingsError, match="GATEWAY_WORKERS: names w:1 twice"):
        await start_gateway(workers=["http://w:1", "http://w:1/v1"])
    with pytest.raises(SettingsError, match="GATEWAY_WORKERS_DNS: names w:1 twice"):
        await start_gateway(workers=[], workers_dns=["http://w:1", "http://w:1"])
    with pytest.raises(SettingsError, match="GATEWAY_WORKERS: is not set"):
        await start_gateway(workers=[])


def listed(path: Path, *workers: ScriptedWorker) -> None:
    write(path, json.dumps([worker.settings() for worker in workers]))


def write(path: Path, text: str) -> None:
    path.write_text(text)
