from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import Settings
from app.store.keys import KeyStore
from tests.integration.api.admin import PEPPER, TOKEN, admin_app, client_of


@pytest.fixture
def keys(engine: AsyncEngine) -> KeyStore:
    return KeyStore(engine, PEPPER, cache_seconds=5, cache_entries=100)


@pytest.fixture
def app(keys: KeyStore, engine: AsyncEngine) -> FastAPI:
    return admin_app(keys, Settings(admin_token=TOKEN), engine)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client
