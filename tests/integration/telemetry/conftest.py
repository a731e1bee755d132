"""A collector of traces."""

from collections.abc import AsyncIterator

import pytest

from tests.support.collector import Collector


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector
