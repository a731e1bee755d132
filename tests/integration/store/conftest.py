from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.database import create_engine
from app.store.keys import KeyStore
from tests.integration.store.clocked import Clock, store_on


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(engine: AsyncEngine, clock: Clock) -> KeyStore:
    return store_on(engine, clock)


@pytest.fixture
async def replica(database_url: str, clock: Clock) -> AsyncIterator[KeyStore]:
    """Another process's store on the same database and the same clock."""
    engine = create_engine(database_url)
    yield store_on(engine, clock)
    await engine.dispose()
