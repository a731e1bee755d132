"""HTTP/1.1 as this gateway takes it: uvicorn's protocol class with the bounds that it lacks.

uvicorn 0.54 on httptools takes 50 MB of headers, none or two Hosts, trailers as if they were
headers (an `Authorization` sent only there authenticated), and waits for ever for the rest of a
request, or for a client that stopped reading. All of that ends here, before the application.

One request at a time: whatever arrives while one is answered is dropped, and the connection closed
after the answer, as HTTP allows (RFC 9112, 9.3.2). No SDK pipelines, and what came behind a request
can so never be read as the next one.
"""

import asyncio
from enum import Enum, auto
from typing import Any, ClassVar

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.http_flow import CUT, Deadline, ReadingFlow, ServerSide, Stall
from app.api.http_head import (
    CHECKS,
    MAX_URL_BYTES,
    is_host,
    refusal_bytes,
    too_many_connections,
    without_upgrade,
)
from app.api.lingering import MAX_LINGER_BYTES, LingeringTransport
from app.api.request_id import new_request_id
from app.errors import (
    GatewayError,
    HeadersTooLarge,
    MethodNotAllowed,
    NotHttp,
    RequestTimeout,
    UrlTooLong,
)
from app.settings import Settings

# Connections above the limit are told so; above the limit and this share of it, cut.
EXCESS_SHARE = 0.1

log = structlog.get_logger()


class Phase(Enum):
    AWAITED = auto()  # a request has to come by the header deadline
    IDLE = auto()  # kept alive: the next request may come
    HEAD = auto()
    BODY = auto()
    WHOLE = auto()  # the request is here, its answer is not
    DISCARDING = auto()  # whatever comes is dropped, and the connection will be closed


class HardenedProtocol(HttpToolsProtocol):
    """Made by `make_protocol`. `cycle` is uvicorn's name for one request and its response."""

    settings: ClassVar[Settings]
    server_side: ClassVar[ServerSide]
    flow: ReadingFlow
    stall: Stall

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._phase = Phase.AWAITED
        self._deadline = Deadline(self.loop, self._expired)
        self._refusal: GatewayError | None = None
        self._excess = False
        self._upgrading = False
        self._lingering: LingeringTransport | None = None
        self._discarded_bytes = 0
        # of the head
        self._hosts = 0
        self._head_bytes = 0  # in complete lines
        self._unparsed_bytes = 0  # in reads that did not complete the head
        # of the body
        self._body_in_parts = False
        self._keep_alive = False
        self._body_began_at = 0.0
        self._body_bytes = 0
        self._bare_bytes = 0  # in reads that brought nothing of the body itself
        self._fed = False

    # -- what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's is narrower
        super().connection_made(transport)
        self.flow = ReadingFlow(transport, self.loop.time)
        self.stall = Stall(
            transport, self.loop, self.settings.client_stall_seconds, self.server_side.refused
        )
        most = self.settings.max_connections
        if len(self.connections) > most:
            self._excess = True
            if len(self.connections) > most + most * EXCESS_SHARE:
                self.server_side.refused(CUT)
                transport.abort()
                return
        self._deadline.set(self.settings.header_deadline_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        self.stall.disarm()
        if self._lingering is not None:
            self._lingering.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._phase
        if self._lingering is not None and self._lingering.discards(data):
            return
        if before is Phase.DISCARDING:
            self._discard(len(data))
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._broken()
        else:
            if self._phase is not Phase.WHOLE:
                self._await_more(before, len(data))

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stall.arm()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stall.disarm()

    # -- what the parser calls; `_reject` makes it stop

    def on_message_begin(self) -> None:
        if self._phase is Phase.WHOLE:
            raise _Stop
        self._phase = Phase.HEAD
        self._hosts = self._head_bytes = self._unparsed_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URL_BYTES:
            self._reject(UrlTooLong(f"The request's URL is longer than {MAX_URL_BYTES} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.settings.max_header_bytes:
            self._reject(self._headers_too_large())
        if self._phase is not Phase.HEAD:
            return  # a trailer: never a header, whatever its name
        headers = self.headers
        if len(headers) >= self.settings.max_headers:
            self._reject(HeadersTooLarge(f"More than {self.settings.max_headers} headers."))
        name = name.lower()
        headers.append((name, value))
        if name in _EXAMINED:
            self._examine(name, value)

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._reject(NotHttp("Only HTTP/1.1 and HTTP/1.0 are spoken here."))
        if self._hosts != 1:
            check = version == "1.0" and self._hosts == 0 and self.url in CHECKS
            if not (check and self.parser.get_method() in (b"GET", b"HEAD")):
                self._reject(NotHttp("A request needs exactly one Host header."))
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._reject(MethodNotAllowed("Method not allowed: CONNECT."))
            self._upgrading = True
            return
        if self._excess and self.url != CHECKS[0]:  # full, but alive
            self._reject(too_many_connections())
        super().on_headers_complete()
        self._phase = Phase.BODY
        if self.server_side.last_answers():
            self.close_after_answer()

    def on_body(self, body: bytes) -> None:
        self._fed = True
        cycle = self.cycle
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._phase = Phase.WHOLE
        cycle = self.cycle
        cycle.more_body = False
        cycle.message_event.set()
        if self._body_in_parts:
            self._body_in_parts = False
            self._lingering = None
            cycle.transport = self.transport
            if not cycle.response_started:
                cycle.keep_alive = self._keep_alive

    # -- what the response calls

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._phase in (Phase.BODY, Phase.DISCARDING) or self.transport.is_closing():
            self._phase = Phase.DISCARDING
            self.stall.arm_if_pending()
        elif self._phase is Phase.WHOLE:
            self._phase = Phase.IDLE
            self.flow.resume_reading()
            self._deadline.set(self.settings.keep_alive_seconds)

    # -- reading

    def _examine(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if not is_host(value):
                self._reject(NotHttp("The Host header is not a host."))
        elif name == b"transfer-encoding":
            # The parser refuses the other contradictions: with Content-Length, twice, not last.
            if value.lower() != b"chunked" or self.parser.get_http_version() != "1.1":
                self._reject(NotHttp("The only transfer encoding is chunked, in HTTP/1.1."))
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True  # is said when the application first reads the body

    def _await_more(self, before: Phase, size: int) -> None:
        """After a read that did not complete a request."""
        settings = self.settings
        if self._phase is Phase.BODY:
            self._await_body(before, size)
            return
        if before is Phase.IDLE:
            self._deadline.set(settings.header_deadline_seconds)
            if self._phase is Phase.IDLE:  # only line ends so far
                self._phase = Phase.AWAITED
        self._unparsed_bytes += size
        if self._unparsed_bytes > settings.max_header_bytes:
            self._refuse(self._headers_too_large())

    def _await_body(self, before: Phase, size: int) -> None:
        if before is not Phase.BODY:
            self._body_began_at = self.loop.time() - self.flow.held_seconds
            self._body_bytes = self._bare_bytes = 0
            self._deadline.set(self.settings.body_deadline_seconds)
            # Whoever answers before the body has ended ends the connection with it.
            self._body_in_parts = True
            self._keep_alive = self.cycle.keep_alive
            self._close_after_response()
        self._body_bytes += size
        self._bare_bytes = 0 if self._fed else self._bare_bytes + size
        self._fed = False
        if self._bare_bytes > self.settings.max_header_bytes:  # trailers, extensions of a chunk
            self._refuse(self._headers_too_large())

    def _ignore_upgrade(self, rest: bytes) -> None:
        head = without_upgrade(self.parser.get_method(), self.url, self.headers)
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)

    def _reject(self, error: GatewayError) -> None:
        """From inside the parser, which passes no exception on."""
        self._refusal = error
        raise _Stop

    def _broken(self) -> None:
        if self._phase is Phase.WHOLE:  # a request behind the one that is being answered
            self._phase = Phase.DISCARDING
            self._close_after_response()
        else:
            self._refuse(self._refusal or NotHttp())

    def _headers_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request's headers are larger than {self.settings.max_header_bytes} bytes."
        )

    # -- time

    def _expired(self) -> None:
        match self._phase:
            case Phase.AWAITED | Phase.IDLE:
                self._close()
            case Phase.HEAD:
                self._refuse(RequestTimeout("The request's headers came too slowly."))
            case Phase.BODY:
                self._expire_body()
            case _:
                pass  # the deadline of a phase that is over

    def _expire_body(self) -> None:
        settings = self.settings
        if self.cycle.waiting_for_100_continue:  # the client may not send yet
            self._deadline.set(settings.body_deadline_seconds)
            return
        allowed = settings.body_deadline_seconds
        allowed += self._body_bytes / settings.body_floor_bytes_per_second
        due = self._body_began_at + allowed + self.flow.held_seconds
        left = due - self.loop.time()
        if left > 0:
            self._deadline.set(left)
        elif self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(RequestTimeout("The request's body came too slowly."))

    # -- ending

    def close_after_answer(self) -> None:
        """The next answer says that it is the last one here. Where its head has left, nothing is
        done: a connection that ends unannounced can cut off what its client sends just then."""
        self._keep_alive = False
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _refuse(self, error: GatewayError) -> None:
        """Answer in place of the application, and end the connection."""
        if self.transport.is_closing():
            return
        answering = False
        if self._phase is Phase.BODY:
            cycle = self.cycle
            answering = cycle.response_started
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()
        self.server_side.refused(error.code or CUT)
        if answering:
            self.transport.abort()
            return
        request_id = self._request_id() or new_request_id()
        log.info("refused_at_edge", request_id=request_id, status=error.status, code=error.code)
        date = self.server_state.default_headers
        self.transport.write(refusal_bytes(error, request_id, date))
        self._phase = Phase.DISCARDING
        if self._lingering is None:
            self._lingering = LingeringTransport(self.transport, self.loop)
        self.stall.arm_if_pending()
        self._lingering.close()

    def _request_id(self) -> str | None:
        """Of a request whose body is awaited: its audit record carries the same."""
        if self.cycle is None or self.cycle.response_complete:
            return None
        return self.cycle.scope["state"].get("request_id")

    def _close_after_response(self) -> None:
        self._lingering = LingeringTransport(self.transport, self.loop)
        self.cycle.keep_alive = False
        self.cycle.transport = self._lingering  # type: ignore[assignment]  # a transport, by its shape

    def _discard(self, size: int) -> None:
        """While the last answer is made."""
        self._discarded_bytes += size
        if self._discarded_bytes > MAX_LINGER_BYTES:
            # Not paused: a connection that is not read does not tell that its client left.
            self.transport.abort()

    def _close(self) -> None:
        self.transport.close()
        self.stall.arm_if_pending()


class _Stop(Exception):
    """Stops the parser."""


_EXAMINED = frozenset((b"host", b"transfer-encoding", b"expect"))


def make_protocol(
    settings: Settings, server_side: ServerSide | None = None
) -> type[HardenedProtocol]:
    """The protocol class with these settings, as uvicorn's `http` option takes it."""
    parts = {"settings": settings, "server_side": server_side or ServerSide()}
    return type("GatewayProtocol", (HardenedProtocol,), parts)
