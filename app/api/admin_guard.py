"""What a request to a route of `/admin/v1` passes before anything of its body is read: the check of
the token. Before that, and whatever its path, it has passed the flood guard."""

import hmac
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.types import Message

from app.api.body import read_body
from app.api.call import bearer
from app.api.flood_guard import Guard
from app.errors import Unauthenticated

MAX_BODY_BYTES = 64 * 1024  # a key with the names of a thousand models

RouteHandler = Callable[[Request], Coroutine[Any, Any, Response]]


def guarded_route(admin_token: SecretStr) -> type[APIRoute]:
    """A route that runs the guard before FastAPI looks at the body, which it does before it runs
    any dependency: without a token even malformed JSON has to be answered 401."""
    guard = _build_guard(admin_token)

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> RouteHandler:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                await guard(request)
                return await handle(await _with_bounded_body(request))

            return guarded

    return GuardedRoute


def _build_guard(admin_token: SecretStr) -> Guard:
    expected = admin_token.get_secret_value().encode()

    async def guard(request: Request) -> None:
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
