"""The HTTP/1.1 edge: uvicorn's protocol class, with the limits that it lacks.

Stock uvicorn on httptools merges the trailers of a chunked body into the request's headers (an
`Authorization` sent only there authenticated), waits for ever for headers and bodies, and takes
50 MB of headers and any number of `Host`s. Private methods of the pinned version are overridden
here; the raw-socket tests say whether a new one still fits.
"""

import asyncio
import re
from enum import Enum, auto
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.lingering import LingeringTransport
from app.api.request_id import new_request_id
from app.errors import (
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
    Unavailable,
)
from app.settings import Settings

MAX_URL_BYTES = 8 * 1024  # none of our routes takes a tenth of that
CONNECTIONS_RETRY_SECONDS = 1.0

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 503: b"Service Unavailable"}
_REASONS[431] = b"Request Header Fields Too Large"
_HOST = re.compile(rb"[A-Za-z0-9._~\-\[\]:%]+")
# Load balancers' checks that still speak HTTP/1.0, without a Host.
_HOSTLESS = (b"/healthz", b"/readyz")


class Reading(Enum):
    """What is being read of a request; a response may be running at the same time."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


def make_protocol(settings: Settings) -> type["HardenedProtocol"]:
    """The protocol class with these settings, as uvicorn's `http` option takes it."""
    return type("GatewayProtocol", (HardenedProtocol,), {"settings": settings})


class HardenedProtocol(HttpToolsProtocol):
    settings: ClassVar[Settings]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading = Reading.NOTHING
        self._head_bytes = 0
        self._body_bytes = 0
        self._body_since = 0.0
        self._refusal: GatewayError | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._lingering: LingeringTransport | None = None

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._refuse(
                Unavailable(
                    "The gateway has too many connections.",
                    retry_after_seconds=CONNECTIONS_RETRY_SECONDS,
                )
            )
            return
        self._arm(self.settings.header_deadline_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resume_writing()
        if self._lingering is not None:
            self._lingering.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None and self._lingering.discards(data):
            return
        super().data_received(data)
        if self._reading is Reading.HEAD:
            # What httptools holds of a header that does not end.
            self._head_bytes += len(data)
            if self._head_bytes > self.settings.max_header_bytes:
                self._refuse(HeadersTooLarge("The headers are too large."))
        elif self._reading is Reading.BODY and len(self.headers) > self.settings.max_headers:
            self._refuse(HeadersTooLarge("There are too many trailers."))

    # -- a client that stops reading

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(
                self.settings.client_stall_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    # -- a request; what is raised here becomes `send_400_response`

    def on_message_begin(self) -> None:
        self._reading = Reading.HEAD
        self._head_bytes = 0
        self._arm(self.settings.header_deadline_seconds)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._refusal = self._fault_of_head()
        if self._refusal is not None:
            raise self._refusal
        super().on_headers_complete()
        # Trailers would be appended to the list that the application has by now.
        self.headers = []
        self._reading = Reading.BODY
        self._body_bytes = 0
        self._body_since = self.loop.time()
        self._lingering = LingeringTransport(self.transport, self.loop)
        self.cycle.transport = self._lingering  # type: ignore[assignment]
        self._arm(self.settings.body_deadline_seconds)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._disarm()
        self._reading = Reading.NOTHING
        self._lingering = None
        self.cycle.transport = self.transport  # the whole body is here: nothing to linger for
        super().on_message_complete()

    def _fault_of_head(self) -> GatewayError | None:
        names = [name for name, _ in self.headers]
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.settings.max_header_bytes or len(self.url) > MAX_URL_BYTES:
            return HeadersTooLarge("The headers are too large.")
        if len(names) > self.settings.max_headers:
            return HeadersTooLarge("There are too many headers.")
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            return InvalidRequest("The HTTP version must be 1.0 or 1.1.", code="invalid_http")
        hosts = [value for name, value in self.headers if name == b"host"]
        hostless = not hosts and version == "1.0" and self.url in _HOSTLESS
        if not hostless and (len(hosts) != 1 or not _HOST.fullmatch(hosts[0])):
            return InvalidRequest("Exactly one valid Host is required.", code="invalid_http")
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (
            [coding.lower() for coding in codings] != [b"chunked"] or b"content-length" in names
        ):
            return InvalidRequest("The transfer encoding must be chunked.", code="invalid_http")
        if self.parser.should_upgrade():
            return InvalidRequest("Upgrades are not supported here.", code="invalid_http")
        return None

    def send_400_response(self, msg: str) -> None:
        """Called where httptools gave up, or one of the callbacks above raised."""
        self._refuse(
            self._refusal
            or InvalidRequest("What was sent is not an HTTP request.", code="invalid_http")
        )

    # -- deadlines

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._reading is Reading.NOTHING:
            self.transport.close()  # connected, and never asked for anything
        elif self._reading is Reading.HEAD:
            self._refuse(RequestTimeout("The headers came too slowly."))
        elif self.flow.read_paused:
            # It is the application that does not read: the client gets all its time again.
            self._body_since = self.loop.time()
            self._arm(self.settings.body_deadline_seconds)
        else:
            earned = self._body_bytes / self.settings.body_floor_bytes_per_second
            due = self._body_since + self.settings.body_deadline_seconds + earned
            if due > self.loop.time():
                self._arm(due - self.loop.time())
            else:
                self._refuse(RequestTimeout("The body came too slowly."))

    def _refuse(self, error: GatewayError) -> None:
        """Answers in the application's place, if nothing of an answer has left, and closes."""
        self._disarm()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        running = cycle is not None and not cycle.response_complete
        if not running or not (cycle.response_started or self.pipeline):
            self.transport.write(_bare_response(error))
        if running:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _bare_response(error: GatewayError) -> bytes:
    body = orjson.dumps(error.body())
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (b"x-request-id", new_request_id().encode()),
        *error.headers(),
    ]
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (error.status, _REASONS[error.status], head, body)
