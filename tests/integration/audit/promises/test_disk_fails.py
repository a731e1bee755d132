"""No request reaches a worker that could not be recorded, and none ends before its record."""

import asyncio
import errno
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tests.integration.audit.promises.asking import (
    check_not_ready,
    check_refused,
    counted,
    readiness,
    until_ready,
)
from tests.support.answers import Answer
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

STREAMS = 5
# Held for so long a disk counts as one that hangs; the real one below takes less.
HANG_SECONDS = 2.0

WAYS_TO_FAIL = [
    pytest.param(Operation.WRITE, errno.EIO, id="write"),
    pytest.param(Operation.WRITE, errno.ENOSPC, id="full"),
    pytest.param(Operation.SYNC, errno.EIO, id="sync"),
]


@pytest.fixture(autouse=True)
def nothing_is_tried_again_on_a_failed_file(disk: FaultyDisk) -> Iterator[None]:
    yield
    assert disk.misused == []


@pytest.mark.parametrize(("operation", "error_number"), WAYS_TO_FAIL)
async def test_while_the_disk_fails_no_worker_sees_anything(
    operation: Operation,
    error_number: int,
    disk: FaultyDisk,
    gateway: RunningGateway,
    worker: ScriptedWorker,
) -> None:
    disk.fail(operation, error_number)
    for stream in (False, True):
        check_refused(await gateway.chat(stream=stream))
    check_refused(await gateway.request("GET", "/v1/models"))
    await check_not_ready(gateway)
    assert worker.requests == []

    disk.heal()
    await until_ready(gateway)
    response = await gateway.chat()
    assert response.status == 200
    assert (await gateway.audited(response.request_id)).outcome == "completed"


async def test_while_the_disk_fails_no_worker_is_asked_to_count_a_long_prompt(
    disk: FaultyDisk, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    long = [{"role": "user", "content": "word " * worker.max_model_len}]
    assert (await gateway.chat(messages=long)).status == 200
    assert worker.paths.count("/tokenize") == 1
    disk.fail(Operation.WRITE, errno.EIO)
    check_refused(await gateway.chat())
    check_refused(await gateway.chat(messages=long))
    assert worker.paths.count("/tokenize") == 1


async def test_a_disk_that_hangs_counts_as_one_that_fails(
    disk: FaultyDisk, start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, audit_write_seconds=HANG_SECONDS)
    with disk.hold_syncs():
        for stream in (False, True):
            check_refused(await gateway.chat(stream=stream))
        await check_not_ready(gateway)
        assert worker.requests == []
    await until_ready(gateway)
    assert (await gateway.chat()).status == 200


async def test_while_the_disk_hangs_nothing_new_waits_for_it(
    disk: FaultyDisk, start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, audit_write_seconds=HANG_SECONDS)
    with disk.hold_syncs():
        check_refused(await gateway.chat())
        waiting = gateway.app.state.gateway.audit.spool._writer.waiting_bytes
        for _ in range(10):
            check_refused(await gateway.chat())
        assert gateway.app.state.gateway.audit.spool._writer.waiting_bytes == waiting


@pytest.mark.usefixtures("small_segments")
async def test_a_full_disk_refuses_what_is_new_and_running_streams_end(
    disk: FaultyDisk, start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker)
    filled = asyncio.Event()
    worker.answers(Answer(["word "] * 60, until=filled, until_after=20, pace_seconds=0.02))
    streams = [asyncio.ensure_future(gateway.chat(stream=True)) for _ in range(STREAMS)]
    await worker.received(STREAMS)
    worker.answers(Answer())

    disk.fail(Operation.CREATE, errno.ENOSPC)
    answered = 0
    while (response := await gateway.chat()).status == 200:
        answered += 1
    check_refused(response)
    await check_not_ready(gateway)
    # As much as the reserve could hold, had they a claim to it.
    for _ in range(70):
        assert (await gateway.chat(messages=[])).status == 400
    assert gateway.drain.in_flight == STREAMS
    assert len(worker.requests) == STREAMS + answered

    filled.set()
    for stream in streams:
        response = await stream
        assert response.stream.finish_reasons == ["stop"]
        assert response.stream.error is None
        assert (await gateway.audited(response.request_id)).outcome == "completed"
    assert (await readiness(gateway))[0] == 503

    disk.heal()
    await until_ready(gateway)
    assert (await gateway.chat()).status == 200


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC])
async def test_an_answer_whose_end_cannot_be_recorded_has_none(
    operation: Operation,
    disk: FaultyDisk,
    gateway: RunningGateway,
    worker: ScriptedWorker,
) -> None:
    read = asyncio.Event()
    worker.answers(Answer(until=read))
    with capture_logs() as logs:
        asked = [asyncio.ensure_future(gateway.chat(stream=stream)) for stream in (False, True)]
        await worker.received(2)
        disk.fail(operation)
        read.set()
        whole, streamed = await asyncio.gather(*asked)

    check_refused(whole)
    assert streamed.stream.text() == "Hello there."
    assert streamed.stream.finish_reasons == []
    assert streamed.stream.usage is None
    assert streamed.stream.error is not None
    assert streamed.stream.error["code"] == "audit_unavailable"
    told = [line["request_id"] for line in logs if line["event"] == "request_not_recorded"]
    assert sorted(told) == sorted([whole.request_id, streamed.request_id])
    assert await counted(gateway, "gateway_audit_records_refused_total") == 2

    disk.heal()
    await until_ready(gateway)
    for response in (whole, streamed):  # what the worker did is known nevertheless
        assert (await gateway.audited(response.request_id)).attempts == 1
