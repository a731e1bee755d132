"""`/admin/v1/keys`: what `gateway keys` does, over HTTP, for whoever holds GATEWAY_ADMIN_TOKEN.

Before anything of the body is read, a request passes a flood guard for its address and then the
check of the token.
"""

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.types import Message

from app.api.body import read_body
from app.api.call import bearer
from app.api.flood_guard import Guard, build_flood_guard
from app.errors import Unauthenticated
from app.settings import Settings
from app.store.api_key import KeyChanges, KeyDraft
from app.store.key_records import MAX_GRACE_SECONDS, MAX_PAGE_KEYS, PAGE_KEYS
from app.store.key_view import (
    DeletedKeyView,
    IssuedKeyView,
    KeyPageView,
    KeyView,
    issued_view,
    view,
)
from app.store.keys import DEFAULT_GRACE_SECONDS, KeyStore

REQUESTS_PER_MINUTE = 60  # from one address: a person and a deployment, not a search for the token
MAX_BODY_BYTES = 64 * 1024  # a key with the names of a thousand models

RouteHandler = Callable[[Request], Coroutine[Any, Any, Response]]


class Rotation(BaseModel):
    """How long older secrets work on; 0 ends them at once."""

    model_config = ConfigDict(extra="forbid")

    grace_seconds: float = Field(default=DEFAULT_GRACE_SECONDS, ge=0, le=MAX_GRACE_SECONDS)


def build_admin_router(settings: Settings) -> APIRouter:
    """The routes, or none at all where no GATEWAY_ADMIN_TOKEN is set.

    The application's state holds `gateway`, whose `keys` is the KeyStore.
    """
    if settings.admin_token is None:
        return APIRouter()
    router = APIRouter(
        prefix="/admin/v1/keys",
        tags=["admin"],
        route_class=_guarded_route(_build_guard(settings.admin_token)),
        # For the OpenAPI document alone: the guard has seen the token when this runs.
        dependencies=[Depends(HTTPBearer(scheme_name="Admin token", auto_error=False))],
    )
    router.post("", status_code=201)(create_key)
    router.get("")(list_keys)
    router.get("/{key_id}")(get_key)
    router.patch("/{key_id}")(update_key)
    router.delete("/{key_id}")(revoke_key)
    router.post("/{key_id}/rotate")(rotate_key)
    return router


async def _keys(request: Request) -> KeyStore:
    return cast(KeyStore, request.app.state.gateway.keys)


Keys = Annotated[KeyStore, Depends(_keys)]


async def create_key(draft: KeyDraft, keys: Keys) -> IssuedKeyView:
    """Issue a key. The answer holds its secret, which is not shown again."""
    return issued_view(await keys.create(draft))


async def list_keys(
    keys: Keys,
    tenant: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_KEYS)] = PAGE_KEYS,
) -> KeyPageView:
    """Keys, newest first; `after` is the last id of the page before."""
    page = await keys.records.page(tenant=tenant, after=after, limit=limit)
    data = [view(key) for key in page.keys]
    return KeyPageView(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


async def get_key(key_id: str, keys: Keys) -> KeyView:
    return view(await keys.records.get(key_id))


async def update_key(key_id: str, changes: KeyChanges, keys: Keys) -> KeyView:
    """Change what is named, and nothing else. It acts everywhere within 5 seconds."""
    return view(await keys.update(key_id, changes))


async def revoke_key(key_id: str, keys: Keys) -> DeletedKeyView:
    """End a key for ever. It stops working everywhere within 5 seconds."""
    return DeletedKeyView(id=(await keys.revoke(key_id)).id)


async def rotate_key(key_id: str, keys: Keys, rotation: Rotation | None = None) -> IssuedKeyView:
    """Issue a new secret for a key; those before it work on for the grace period."""
    grace_seconds = (rotation or Rotation()).grace_seconds
    return issued_view(await keys.rotate(key_id, grace_seconds=grace_seconds))


def _guarded_route(guard: Guard) -> type[APIRoute]:
    """A route that runs `guard` before FastAPI looks at the body, which it does before it runs
    any dependency: without a token even malformed JSON has to be answered 401."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> RouteHandler:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                await guard(request)
                return await handle(await _with_bounded_body(request))

            return guarded

    return GuardedRoute


def _build_guard(admin_token: SecretStr) -> Guard:
    not_too_often = build_flood_guard("admin API", REQUESTS_PER_MINUTE)
    expected = admin_token.get_secret_value().encode()

    async def guard(request: Request) -> None:
        await not_too_often(request)
        presented = bearer(request.headers).encode("latin-1")  # as the server decoded it
        if not hmac.compare_digest(presented, expected):
            raise Unauthenticated("Incorrect admin token provided.")

    return guard


async def _with_bounded_body(request: Request) -> Request:
    """The request with its body read already: FastAPI's own reading has no bound in our shape."""
    if request.method not in ("POST", "PATCH") or not _has_body(request):
        return request
    body = await read_body(request.headers, request.receive, MAX_BODY_BYTES)

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, replay)


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get(
        "content-length", "0"
    ) not in ("0", "")
