"""Workers that are real processes, and what happens to those: killed, stopped, slow, flapping.

What had not begun is served elsewhere; what had begun ends, and says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

from app.upstream.endpoint import Endpoint
from tests.support.conditions import eventually
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.sse_events import Stream
from tests.support.worker_process import WorkerProcess

WITHIN_SECONDS = 60.0  # only spent on failure
PIECES = 20
SETTINGS = {
    "probe_seconds": 0.2,
    "probe_timeout_seconds": 0.5,
    "ejection_seconds": 1.0,
}


@asynccontextmanager
async def worker_processes(
    *, slow: float = 1.0, prefill_seconds: float = 0.3, pace_seconds: float = 0.02
) -> AsyncIterator[list[WorkerProcess]]:
    """Three; the first one takes `slow` times as long as the others."""
    async with AsyncExitStack() as stack:
        workers = []
        for factor in (slow, 1.0, 1.0):
            worker = WorkerProcess(
                pieces=PIECES,
                prefill_seconds=prefill_seconds * factor,
                pace_seconds=pace_seconds * factor,
            )
            workers.append(await stack.enter_async_context(worker))
        yield workers


def of(workers: list[WorkerProcess]) -> dict[str, object]:
    return {"workers": [worker.settings() for worker in workers]}


def endpoint_of(gateway: RunningGateway, worker: WorkerProcess) -> Endpoint:
    endpoints: list[Endpoint] = gateway.app.state.gateway.workers.pool.endpoints
    return next(each for each in endpoints if each.url == worker.url)


async def asked(gateway: RunningGateway) -> Stream:
    """A conversation of its own, streamed."""
    return await gateway.stream(messages=[{"role": "user", "content": uuid4().hex}])


def is_whole(stream: Stream) -> bool:
    return stream.error is None and stream.text() == "word " * PIECES


def ended_clearly(stream: Stream) -> bool:
    """It had begun, as its status was 200, and says that it is not whole."""
    return stream.error is not None and stream.finish_reasons == []


async def test_a_killed_worker_takes_nothing_along_that_had_not_begun(
    start_gateway: StartGateway,
) -> None:
    async with worker_processes() as workers:
        gateway = await start_gateway(**of(workers), **SETTINGS)
        victim = endpoint_of(gateway, workers[0])
        asking = []
        for _ in range(10):  # some have begun when it dies, some are being read
            asking += [asyncio.ensure_future(asked(gateway)) for _ in range(4)]
            await asyncio.sleep(0.06)
        await eventually(lambda: victim.in_flight > 0, WITHIN_SECONDS, "it has requests")
        await workers[0].kill()
        streams = await asyncio.gather(*asking)
        lost = [each for each in streams if not is_whole(each)]
        assert all(ended_clearly(each) for each in lost)
        assert len(lost) < len(streams)
        await eventually(lambda: not victim.ready, WITHIN_SECONDS, "the worker to be missed")
        again = await asyncio.gather(*(asked(gateway) for _ in range(4)))
        assert all(is_whole(each) for each in again)


async def test_a_stopped_worker_loses_what_it_has_and_is_taken_back_when_it_goes_on(
    start_gateway: StartGateway,
) -> None:
    async with worker_processes(prefill_seconds=1.0) as workers:
        gateway = await start_gateway(
            **of(workers),
            **SETTINGS,
            inter_token_seconds=2.0,
            silent_worker_seconds=1.0,
            first_byte_seconds=600.0,
        )
        victim = endpoint_of(gateway, workers[0])
        generation = victim.generation
        asking = [asyncio.ensure_future(asked(gateway)) for _ in range(24)]
        await eventually(lambda: victim.in_flight > 0, WITHIN_SECONDS, "it has requests")
        workers[0].stop()
        # Nothing has begun anywhere: all of them are answered, without a first byte's patience.
        assert all(is_whole(each) for each in await asyncio.gather(*asking))
        await eventually(lambda: not victim.ready, WITHIN_SECONDS, "the worker to be missed")
        workers[0].go_on()
        await eventually(
            lambda: victim.ready and victim.takes_requests(time.monotonic()),
            WITHIN_SECONDS * 3,
            "the worker to be taken back",
        )
        assert victim.generation == generation


async def test_streams_of_a_stopped_worker_end_when_they_have_been_silent_for_long(
    start_gateway: StartGateway,
) -> None:
    # Slow enough that none has come to its end when the last one has begun.
    async with worker_processes(pace_seconds=0.1) as workers:
        gateway = await start_gateway(**of(workers), **SETTINGS, inter_token_seconds=1.0)
        victim = endpoint_of(gateway, workers[0])
        asking = [asyncio.ensure_future(asked(gateway)) for _ in range(24)]
        await eventually(
            lambda: victim.in_flight > 0 and not victim.load.prefill_tokens,
            WITHIN_SECONDS,
            "its answers to have begun",
        )
        workers[0].stop()
        streams = await asyncio.gather(*asking)
        assert all(is_whole(each) or ended_clearly(each) for each in streams)
        assert any(ended_clearly(each) for each in streams)


async def test_a_worker_ten_times_as_slow_is_used_and_not_ejected(
    start_gateway: StartGateway,
) -> None:
    async with worker_processes(slow=10.0, prefill_seconds=0.05) as workers:
        gateway = await start_gateway(**of(workers), **SETTINGS | {"probe_timeout_seconds": 10.0})
        slow = endpoint_of(gateway, workers[0])
        streams = await asyncio.gather(*(asked(gateway) for _ in range(24)))
        assert all(is_whole(each) for each in streams)
        assert (slow.ready, slow.ejected_until) == (True, None)


async def test_a_worker_that_comes_and_goes_is_left_alone_after_a_while(
    start_gateway: StartGateway,
) -> None:
    async with worker_processes(prefill_seconds=0.0) as workers:
        gateway = await start_gateway(**of(workers), **SETTINGS, worker_check="off")
        victim = endpoint_of(gateway, workers[0])
        over = asyncio.Event()
        streams: list[Stream] = []

        async def ask_on() -> None:
            while not over.is_set():
                streams.append(await asked(gateway))

        asking = [asyncio.ensure_future(ask_on()) for _ in range(4)]
        try:
            while victim.ejected_until is None:
                await eventually(lambda: victim.ready, WITHIN_SECONDS, "the worker to be back")
                await workers[0].kill()
                await eventually(lambda: not victim.ready, WITHIN_SECONDS, "it to be missed")
                await workers[0].start()
        finally:
            over.set()
            await asyncio.gather(*asking)
        assert all(is_whole(each) or ended_clearly(each) for each in streams)
        assert any(is_whole(each) for each in streams)
