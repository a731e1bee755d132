"""The server process, where the application behind it fails, and what it needs of the system."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from app.drain import Drain
from app.serve import GatewayServer, allow_files, bind
from app.settings import Settings
from app.telemetry.metrics import Metrics

WITHIN_SECONDS = 60.0  # only spent on failure


@pytest.fixture
def file_limit() -> Iterator[int]:
    """The hard limit; what a test does to the soft one is undone."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_server_whose_background_died_ends_instead_of_serving_on() -> None:
    died = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def die() -> None:
            await died.wait()
            raise RuntimeError("the prober has a defect")

        async with asyncio.TaskGroup() as background:
            background.create_task(die())
            yield

    app = FastAPI(lifespan=lifespan)
    app.state.drain = Drain()
    app.state.metrics = Metrics()
    settings = Settings(port=0)
    server = GatewayServer(app, settings, on_ready=died.set)
    with pytest.raises(SystemExit) as ended:
        async with asyncio.timeout(WITHIN_SECONDS):
            await server.serve(sockets=[bind(settings)])
    assert ended.value.code == 1
    for listening in server.servers:
        listening.close()


def test_the_limit_of_open_files_is_raised_to_what_the_connections_need(file_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, file_limit))
    allow_files(Settings(max_connections=100))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 456


def test_a_limit_that_may_not_be_raised_enough_is_raised_as_far_as_it_may(file_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, file_limit))
    allow_files(Settings(max_connections=10_000_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (20_000_256 if hard == resource.RLIM_INFINITY else min(hard, 20_000_256))
