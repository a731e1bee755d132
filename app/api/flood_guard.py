"""So many requests a minute from one address, counted in this process, before any credential is
looked at: for routes that people use, not for the data path.

Of slowapi only the decorator, and in memory: its middleware breaks streams, and its other storages
block the event loop.
"""

import ipaddress
from collections.abc import Awaitable, Callable

from fastapi import Request
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded

from app.errors import RateLimited

RETRY_SECONDS = 60.0  # the window

Guard = Callable[[Request], Awaitable[None]]


def build_flood_guard(name: str, requests_per_minute: int) -> Guard:
    """`await guard(request)` raises RateLimited."""
    limiter = Limiter(key_func=client_network, storage_uri="memory://")

    @limiter.shared_limit(f"{requests_per_minute}/minute", scope=name)
    async def count(request: Request) -> None:
        pass

    async def guard(request: Request) -> None:
        try:
            await count(request=request)
        except RateLimitExceeded:
            raise RateLimited(
                f"Rate limit reached for the {name}: {requests_per_minute} requests per minute.",
                retry_after_seconds=RETRY_SECONDS,
            ) from None

    return guard


def client_network(request: Request) -> str:
    """The client's address; of IPv6 the /64, which is what one customer is given."""
    if request.client is None:
        return "unknown"
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return request.client.host
    prefix = 64 if address.version == 6 else 32
    return str(ipaddress.ip_network((address, prefix), strict=False))
