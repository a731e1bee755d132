"""Who gets to the admin routes."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.api.admin import REQUESTS_PER_MINUTE
from app.settings import Settings
from app.store.keys import KeyStore
from tests.integration.api.admin import KEYS, TOKEN, admin_app, client_of, created


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"],
)
async def test_without_the_token_nothing_is_done(app: FastAPI, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    async with client_of(app) as stranger:
        response = await stranger.get(KEYS, headers=headers)  # type: ignore[arg-type]  # odd on purpose
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"


async def test_two_tokens_are_none(app: FastAPI) -> None:
    async with client_of(app) as stranger:
        right = ("authorization", f"Bearer {TOKEN}")
        response = await stranger.get(KEYS, headers=[right, ("authorization", "Bearer x")])
    assert response.status_code == 401


async def test_an_api_key_is_no_admin_token(client: httpx.AsyncClient) -> None:
    key = await created(client)
    headers = {"authorization": f"Bearer {key['secret']}"}
    assert (await client.get(KEYS, headers=headers)).status_code == 401


async def test_without_the_token_malformed_json_is_not_even_read(app: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"1")]
    await app(http_scope("POST", KEYS, headers), receive, send)
    assert sent[0]["status"] == 401


async def test_without_the_setting_the_routes_do_not_exist(keys: KeyStore) -> None:
    app = admin_app(keys, Settings())
    async with client_of(app) as stranger:
        headers = {"authorization": f"Bearer {TOKEN}"}
        for method in ("GET", "POST", "PUT"):
            response = await stranger.request(method, KEYS, headers=headers)
            assert response.status_code == 404
    assert not any(path.startswith("/admin") for path in app.openapi()["paths"])


async def test_a_flood_from_one_address_is_stopped_before_its_token_is_looked_at(
    app: FastAPI,
) -> None:
    async with client_of(app, "2001:db8::1") as flood:
        for _ in range(REQUESTS_PER_MINUTE):
            assert (await flood.get(f"{KEYS}/key_x")).status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        refused = await flood.post(KEYS, json={"name": "x"}, headers=right)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    async with client_of(app, "2001:db8:0:0:ffff::2") as neighbour:
        assert (await neighbour.get(KEYS, headers=right)).status_code == 429
    async with client_of(app, "2001:db8:0:1::1") as other:
        assert (await other.get(KEYS, headers=right)).status_code == 200


async def test_the_openapi_document_describes_the_routes(app: FastAPI) -> None:
    document = app.openapi()
    assert set(document["paths"][KEYS]) == {"get", "post"}
    assert set(document["paths"][KEYS + "/{key_id}"]) == {"get", "patch", "delete"}
    assert document["paths"][KEYS]["post"]["security"] == [{"Admin token": []}]


def http_scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.9", 1234),
        "server": ("gateway", 80),
    }
