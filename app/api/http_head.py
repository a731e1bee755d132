"""A request's head: what is refused of it, and how such a refusal reads on the wire."""

import re

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.errors import GatewayError, Unavailable

RawHeaders = list[tuple[bytes, bytes]]

MAX_URL_BYTES = 8 * 1024  # our longest route has 70; a URL that long is an attack or a mistake
MAX_PORT = 65_535

# What an unencrypted load balancer's check may ask in HTTP/1.0 without saying Host.
CHECKS = (b"/healthz", b"/readyz")

FULL_RETRY_SECONDS = 2.0  # by then another replica has been found

_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")

# Headers of one connection, which go when an upgrade is not taken (RFC 9110, 7.8).
_UPGRADE_HEADERS = frozenset((b"connection", b"upgrade", b"http2-settings"))


def is_host(value: bytes) -> bool:
    """Whether it is a host with an optional port, and nothing else."""
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) <= MAX_PORT


def without_upgrade(method: bytes, url: bytes, headers: RawHeaders) -> bytes:
    """The same head again, as if the client had not asked for another protocol.

    Java's HTTP client asks for h2c on its first request, whatever that is.
    """
    kept = [pair for pair in headers if pair[0] not in _UPGRADE_HEADERS]
    options = b",".join(value for name, value in headers if name == b"connection").lower()
    if b"close" in (option.strip() for option in options.split(b",")):
        kept.append((b"connection", b"close"))
    lines = [b"%b %b HTTP/1.1" % (method, url), *(b"%b: %b" % pair for pair in kept)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refusal_bytes(error: GatewayError, request_id: str, date: RawHeaders) -> bytes:
    """A whole response that says `error` and that the connection ends."""
    body = orjson.dumps(error.body())
    headers = [
        *date,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *error.headers(),
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + body


def too_many_connections() -> Unavailable:
    return Unavailable(
        "The gateway has too many connections. Please try again.",
        retry_after_seconds=FULL_RETRY_SECONDS,
    )
