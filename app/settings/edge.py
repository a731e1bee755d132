"""What a client may send, how fast it has to be, and what it hears while it waits."""

from pydantic import Field

from app.settings.forms import KIB, MIB, Network, Theme


class EdgeSettings(Theme):
    """The edge

    What reaches the gateway from outside, before anybody is known.
    """

    trusted_proxies: tuple[Network, ...] = ()
    """A JSON list of the addresses and networks of your own proxies, `["10.0.0.0/8"]`: only their
    `X-Forwarded-For` is believed. By default nobody's: behind a load balancer all clients then
    share one address."""

    failed_authentications_per_minute: int = Field(default=30, ge=1)
    """From one address (of IPv6 one /64), in each process; then only keys that it has seen to be
    good pass. A hand that mistypes and a deployment with an old key make a few, as SDKs do not
    repeat them; a search makes thousands."""

    header_deadline_seconds: float = Field(default=10.0, gt=0)
    """How long a request's head may take to arrive."""

    max_header_bytes: int = Field(default=32 * KIB, ge=1 * KIB)
    """Of all header lines together. Real clients send less than 4 KiB."""

    max_headers: int = Field(default=100, ge=10)
    """Header lines of one request."""

    # At most what the audit log can keep in one piece, with what it adds.
    max_body_bytes: int = Field(default=32 * MIB, ge=1 * KIB, le=40 * MIB)
    """Of a request's body, also of what a compressed one unpacks to: a prompt of a million tokens
    (4 to 8 MB of text) with JSON escapes and room to spare."""

    body_deadline_seconds: float = Field(default=60.0, gt=0)
    """How long a body may take to arrive, and as much longer as it has bytes at
    `GATEWAY_BODY_FLOOR_BYTES_PER_SECOND`."""

    body_floor_bytes_per_second: int = Field(default=64 * KIB, ge=1)
    """The slowest client that is borne with."""

    keep_alive_seconds: float = Field(default=75.0, gt=0)
    """After which an idle connection of a client is closed: later than any SDK's idle pool does,
    so that none sends a request into a closing connection."""

    client_stall_seconds: float = Field(default=60.0, gt=0)
    """After which a client that stopped reading its answer counts as gone."""

    max_connections: int = Field(default=10_000, ge=1)
    """Connections of clients, in each process. Each may need a second open file for its worker."""

    drain_seconds: float = Field(default=300.0, ge=0)
    """How long running streams may take after SIGTERM: the longest prefill and an answer. The
    grace period of whatever stops the process has to be longer."""

    drain_grace_seconds: float = Field(default=5.0, ge=0)
    """After SIGTERM, how long requests that still come are served, while `/readyz` says 503: until
    every load balancer has noticed. Longer than two of its health checks are apart, and less than
    the 10 s after which Docker kills. It is part of `GATEWAY_DRAIN_SECONDS`."""


class WaitingSettings(Theme):
    """Waiting, and saying so

    A prompt of a million tokens is read for minutes, in which proxies and SDKs give up on a
    connection that is silent.
    """

    commit_after_seconds: float = Field(default=12.0, gt=0)
    """After which the status line of a stream leaves, though no token has come. Until then a
    failure can still be told as a status."""

    keep_alive_comment_seconds: float = Field(default=15.0, gt=0)
    """Silence on a stream after which a comment is sent: proxies cut at 60 s."""

    empty_delta_seconds: float = Field(default=60.0, gt=0)
    """Silence after which an empty chunk is sent: LangChain drops a stream after 120 s without one
    that it could parse."""
