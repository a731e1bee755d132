"""So many requests a minute from one network, counted in this process, before any credential is
looked at: for routes that people use, not for the data path.

Of slowapi only the decorator, and in memory: its middleware breaks streams, and its other storages
block the event loop.
"""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import error_response
from app.api.flood_windows import SCHEME
from app.errors import RateLimited
from app.limits.client_network import client_network

WINDOW_SECONDS = 60  # and the longest retry-after that SDKs obey

Guard = Callable[[Request], Awaitable[None]]


class FloodGuarded:
    """Pure ASGI: whatever is below `prefix`, a route or none, passes the guard first."""

    def __init__(self, app: ASGIApp, prefix: str, guard: Guard) -> None:
        self._app = app
        self._prefix = prefix
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self._prefix}/"):
            try:
                await self._guard(Request(scope))
            except RateLimited as refusal:
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def build_flood_guard(
    name: str, requests_per_minute: int, clock: Callable[[], float] = time.monotonic
) -> Guard:
    """`await guard(request)` raises RateLimited. `clock` gives monotonic seconds."""
    options: dict[str, Any] = {"clock": clock}
    limiter = _Limiter(
        key_func=_network_of,
        storage_uri=f"{SCHEME}://",
        storage_options=options,
        strategy="fixed-window",
    )

    @limiter.shared_limit(f"{requests_per_minute}/minute", scope=name)
    async def count(request: Request) -> None:
        pass

    async def guard(request: Request) -> None:
        try:
            await count(request=request)
        except RateLimitExceeded:
            limit, identifiers = request.state.view_rate_limit
            ends_at = limiter.limiter.get_window_stats(limit, *identifiers).reset_time
            raise RateLimited(
                f"Rate limit reached for the {name}: {requests_per_minute} requests per minute.",
                retry_after_seconds=min(max(math.ceil(ends_at - clock()), 1), WINDOW_SECONDS),
            ) from None

    return guard


class _Limiter(Limiter):
    def get_app_config(self, key: str, default_value: Any = None) -> Any:
        """The default. slowapi would read the environment and a file `.env`, where
        `RATELIMIT_ENABLED=false` takes every guard away."""
        return default_value


def _network_of(request: Request) -> str:
    return client_network(request.client.host if request.client is not None else None)
