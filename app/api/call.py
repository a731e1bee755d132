"""Who calls, read from the request's head."""

import time

from starlette.datastructures import Headers
from starlette.types import Scope

from app.api.request_headers import read_timeout_seconds
from app.api.request_id import request_id_of
from app.errors import AuthenticationFailure, Unauthenticated
from app.gateway.types import Caller


def caller_of(scope: Scope, headers: Headers, started_at: float, *, route: str) -> Caller:
    """`client` in the scope is who `ClientAddresses` found it to be: the peer, unless that is a
    proxy that the settings trust."""
    client = scope.get("client")
    return Caller(
        request_id=request_id_of(scope),
        route=route,
        method=scope["method"],
        received_at=time.time(),  # noqa: TID251 - the audit record's date, not an interval
        started_at=started_at,
        client_ip=client[0] if client else None,
        user_agent=headers.get("user-agent"),
        client_request_id=headers.get("x-request-id"),
        retry_count=headers.get("x-stainless-retry-count"),
        idempotency_key=headers.get("idempotency-key"),
        patience_seconds=read_timeout_seconds(headers),
    )


def bearer(headers: Headers) -> str:
    """The secret of the one `Authorization: Bearer` header. Raises Unauthenticated."""
    values = headers.getlist("authorization")
    if not values:
        raise Unauthenticated(
            "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.",
            AuthenticationFailure.MISSING,
        )
    scheme, _, secret = values[0].strip().partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("Incorrect API key provided.", AuthenticationFailure.MALFORMED)
    return secret.strip()
