"""The worker pool over the admin API; what becomes of requests meanwhile stands in
`test_pool_changes.py`."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from app.settings.worker import WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.membership.changes import Membership, Source
from app.upstream.pool import Pool
from tests.integration.api.admin import TOKEN, admin_app, client_of

WORKERS = "/admin/v1/workers"
SECRETS = ("a-secret-key", "a-password", "a-secret-field")
WORKER = {
    "url": "http://user:a-password@w0:8000/v1",
    "engine": "sglang",
    "api_key": "a-secret-key",
    "tags": ["short", "eu"],
    "max_concurrency": 8,
    "max_model_len": 32_768,
    "body_overrides": {"x": "a-secret-field"},
}


@pytest.fixture
def pool() -> Pool:
    return Pool(())


@pytest.fixture
def app(pool: Pool) -> FastAPI:
    app = admin_app(None, Settings(admin_token=TOKEN))
    metrics = Metrics()
    app.state.gateway = SimpleNamespace(metrics=metrics)
    app.state.membership = Membership(pool, metrics.pool)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


async def added(client: httpx.AsyncClient, **values: object) -> dict[str, Any]:
    response = await client.post(WORKERS, json=WORKER | values)
    assert response.status_code == 201, response.text
    assert not any(secret in response.text for secret in SECRETS)
    body: dict[str, Any] = response.json()
    return body


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_a_worker_is_shown_without_anything_secret(
    client: httpx.AsyncClient, pool: Pool
) -> None:
    assert (await client.get(WORKERS)).json() == {"object": "list", "data": []}
    worker = await added(client)
    assert worker == {
        "object": "worker",
        "name": "w0:8000",
        "state": "not_ready",
        "source": "admin",
        "engine": "sglang",
        "separation": "parser",
        "tags": ["eu", "short"],
        "max_concurrency": 8,
        "model": None,
        "context_tokens": 32_768,
        "requests": 0,
        "prefill_tokens": 0,
        "capacity_tokens": None,
    }
    assert (await client.get(f"{WORKERS}/w0:8000")).json() == worker
    assert (await client.get(WORKERS)).json()["data"] == [worker]
    (endpoint,) = pool.endpoints
    assert endpoint.headers()["authorization"] == "Bearer a-secret-key"


async def test_a_worker_says_what_it_does(client: httpx.AsyncClient, pool: Pool) -> None:
    async def state() -> str:
        return str((await client.get(WORKERS)).json()["data"][0]["state"])

    await added(client)
    (endpoint,) = pool.endpoints
    endpoint.ready = True
    assert await state() == "ready"
    endpoint.ejected_until = 1.0
    assert await state() == "ejected"
    await client.post(f"{WORKERS}/w0:8000/drain")
    assert await state() == "draining"
    endpoint.in_flight = 2
    gone = (await client.delete(f"{WORKERS}/w0:8000")).json()
    assert (gone["state"], gone["requests"]) == ("leaving", 2)
    assert await state() == "leaving"


@pytest.mark.parametrize("name", ["w0:8000", "[fd00::1]:8000", "w0:8000/deep/path"])
async def test_every_name_of_a_worker_fits_into_the_path(
    client: httpx.AsyncClient, pool: Pool, name: str
) -> None:
    assert (await added(client, url=f"http://{name}"))["name"] == name
    for path in (name, name.replace("/", "%2F").replace(":", "%3A")):
        assert (await client.post(f"{WORKERS}/{path}/drain")).json()["state"] == "draining"
        assert (await client.post(f"{WORKERS}/{path}/resume")).json()["state"] == "not_ready"
    assert (await client.delete(f"{WORKERS}/{name}")).status_code == 200
    assert pool.endpoints == []


async def test_what_does_not_go_with_the_pool_is_refused(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    app.state.membership.want(Source.FILE, [WorkerSettings.model_validate({"url": "http://w1:1"})])
    await added(client)
    assert code(await client.post(WORKERS, json=WORKER)) == (409, "worker_exists")
    assert code(await client.delete(f"{WORKERS}/w1:1")) == (409, "worker_is_named")
    for method, path in (("POST", "x/drain"), ("POST", "x/resume"), ("GET", "x"), ("DELETE", "x")):
        response = await client.request(method, f"{WORKERS}/{path}")
        assert code(response) == (404, "worker_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "url"),
        ({"url": "w0"}, "url"),
        ({"url": "http://w0", "engine": "x"}, "engine"),
        ({"url": "http://w0", "key": "a-secret-key"}, "key"),
        ({"url": "http://w0", "max_concurrency": 0}, "max_concurrency"),
        # It would send any file of the gateway to any server.
        ({"url": "http://w0", "api_key_file": "/etc/hostname"}, "api_key_file"),
    ],
)
async def test_what_is_wrong_in_a_worker_is_named(
    client: httpx.AsyncClient, pool: Pool, body: dict[str, object], param: str
) -> None:
    response = await client.post(WORKERS, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert "a-secret-key" not in response.text
    assert pool.endpoints == []


async def test_of_several_processes_none_is_changed_by_chance(
    client: httpx.AsyncClient, app: FastAPI, pool: Pool
) -> None:
    await added(client)
    app.state.gateway = SimpleNamespace(metrics=SimpleNamespace(several_processes=True))
    assert (await client.get(WORKERS)).status_code == 200
    changes = (
        ("POST", ""),
        ("DELETE", "/w0:8000"),
        ("POST", "/w0:8000/drain"),
        ("POST", "/w0:8000/resume"),
    )
    for method, path in changes:
        response = await client.request(method, WORKERS + path, json=WORKER | {"url": "http://w2"})
        assert code(response) == (409, "several_processes")
    (endpoint,) = pool.endpoints
    assert not endpoint.draining


async def test_the_document_says_whose_pool_it_is_and_that_keys_are_only_written(
    app: FastAPI,
) -> None:
    document = app.openapi()
    routes = {path: set(methods) for path, methods in document["paths"].items() if WORKERS in path}
    assert routes == {
        WORKERS: {"get", "post"},
        WORKERS + "/{name}": {"get", "delete"},
        WORKERS + "/{name}/drain": {"post"},
        WORKERS + "/{name}/resume": {"post"},
    }
    for path, methods in routes.items():
        for method in methods:
            assert "replica" in document["paths"][path][method]["description"]
    schemas = document["components"]["schemas"]
    assert "api_key" not in schemas["WorkerView"]["properties"]
    (key, _) = schemas["WorkerSettings"]["properties"]["api_key"]["anyOf"]
    assert key["writeOnly"]
