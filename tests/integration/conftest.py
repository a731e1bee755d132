"""A gateway as in production, with a real database, in front of scripted workers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.gateway import RunningGateway, StartGateway, running_gateway
from tests.support.scripted_worker import ScriptedWorker


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker() as worker:
        yield worker


@pytest.fixture
async def second_worker() -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker() as worker:
        yield worker


@pytest.fixture
async def start_gateway(database_url: str) -> AsyncIterator[StartGateway]:
    """`await start_gateway(worker, ..., setting=value)`."""
    async with AsyncExitStack() as stack:

        async def start(*workers: ScriptedWorker, **settings: object) -> RunningGateway:
            return await stack.enter_async_context(
                running_gateway(database_url, list(workers), **settings)
            )

        yield start


@pytest.fixture
async def gateway(start_gateway: StartGateway, worker: ScriptedWorker) -> RunningGateway:
    """With the default settings, in front of `worker`."""
    return await start_gateway(worker)
