"""The admin routes in an application of their own, and a client of it."""

from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api.admin import add_admin_routes
from app.api.errors import add_error_handlers
from app.settings import Settings
from app.store.keys import KeyStore

TOKEN = "admin-token-for-tests"
PEPPER = b"pepper"
KEYS = "/admin/v1/keys"


def admin_app(
    keys: KeyStore | None, settings: Settings, engine: AsyncEngine | None = None
) -> FastAPI:
    app = FastAPI()
    app.state.gateway = SimpleNamespace(keys=keys)
    app.state.engine = engine
    add_error_handlers(app)
    add_admin_routes(app, settings)
    return app


def client_of(app: FastAPI, address: str = "192.0.2.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1234), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


async def created(client: httpx.AsyncClient, **values: object) -> dict[str, Any]:
    response = await client.post(KEYS, json={"name": "backend", **values})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body
