"""The server process: uvicorn with our edge, our drain, and one-line errors."""

import asyncio
import errno
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable

import structlog
import uvicorn
from fastapi import FastAPI

from app.api.http_flow import ServerSide
from app.api.http_protocol import HardenedProtocol, make_protocol
from app.drain import Drain
from app.settings import Settings, SettingsError
from app.telemetry.metrics import Metrics
from app.telemetry.process_metrics import LoopLag

GC_ALLOCATIONS = 7_000  # objects between two collections; Python's default is 700
BACKLOG = 2048  # connections that wait to be accepted
# After the drain's deadline the streams end with an error event; it has to reach the clients.
END_SECONDS = 5.0
# Nothing is in flight by then. Idle connections close at once; this is for clients that are
# still receiving the last of a large answer.
CLOSE_SECONDS = 30
TICK_SECONDS = 0.1  # uvicorn's, between two calls of `on_tick`
TICKS_BETWEEN_FILE_COUNTS = 100  # ten seconds: of ten thousand it takes a thread some 5 ms
FILES_BESIDE_CONNECTIONS = 256  # database, logs, modules; workers take one for each request

log = structlog.get_logger()


class GatewayServer(uvicorn.Server):
    """Drains on the first signal: not ready at once, what still comes is served until every load
    balancer has noticed (not after SIGINT, which a person sends), then nothing new is taken,
    running requests finish, and it exits.

    The listener stays open to the end, so that whoever comes late sees a 503 instead of a refused
    connection. A second signal ends the running requests now, a third one the process.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        on_ready: Callable[[], None] | None = None,
        parent_pid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        drain: Drain = app.state.drain
        metrics: Metrics = app.state.metrics
        super().__init__(
            uvicorn.Config(
                app,
                http=make_protocol(
                    settings,
                    ServerSide(lambda: drain.announced, metrics.process.edge_refused),
                ),
                loop="uvloop",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=round(settings.keep_alive_seconds),
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )
        self._drain = drain
        self._process = metrics.process
        self._lag = LoopLag(metrics.process.loop_lag, clock, TICK_SECONDS)
        self._max_connections = settings.max_connections
        self._drain_seconds = settings.drain_seconds
        self._grace_seconds = min(settings.drain_grace_seconds, settings.drain_seconds)
        self._on_ready = on_ready
        self._parent_pid = parent_pid
        self._clock = clock
        self._refuse_at: float | None = None
        self._deadline = 0.0
        self._hurried = False
        self._expired = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _calm_the_collector()
        if self._on_ready is not None:
            self._on_ready()

    def handle_exit(self, sig: int, frame: object) -> None:
        if not self._drain.announced:
            self._drain.announce()
            if sig == signal.SIGINT or not self._grace_seconds:
                self._drain.begin()
        elif not self._hurried:
            self._hurried = True
        else:
            self.should_exit = self.force_exit = True  # not even audit records are waited for

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        await self._observe(counter)
        if await super().on_tick(counter):
            return True
        if self.lifespan.shutdown_event.is_set():
            # A task behind the requests died, and closed with it what they need.
            log.critical("background_failed")
            sys.exit(1)
        if self._parent_pid not in (None, os.getppid()):
            self._drain.begin()  # the parent is gone, and with it who would tell us to
        return self._drain.announced and self._has_drained()

    async def _observe(self, counter: int) -> None:
        self._lag.woke()
        self._process.connections(len(self.server_state.connections), self._max_connections)
        self._process.draining(self._drain.announced)
        if counter % TICKS_BETWEEN_FILE_COUNTS == 0:
            await asyncio.to_thread(self._process.files)
        self._lag.sleeps()

    def _has_drained(self) -> bool:
        now = self._clock()
        if self._refuse_at is None:
            self._refuse_at = now + self._grace_seconds
            self._deadline = now + self._drain_seconds
            for connection in self.server_state.connections:
                if isinstance(connection, HardenedProtocol):
                    connection.close_after_answer()
        if self._hurried:
            self._refuse_at = self._deadline = min(now, self._deadline)
        if now >= self._refuse_at:
            self._drain.begin()
        if not self._drain.draining:
            return False
        if self._drain.in_flight == 0:
            return True
        if now >= self._deadline and not self._expired:
            self._expired = True
            self._drain.expire()
        return now >= self._deadline + END_SECONDS


def _calm_the_collector() -> None:
    """What was built at start stays, so the garbage collector need not look at it again; and a
    request makes few cycles, so it may look ten times less often than by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)


def needed_files(settings: Settings) -> int:
    """That may be open at once in a process: `max_connections` of clients, and as many of
    workers."""
    return 2 * settings.max_connections + FILES_BESIDE_CONNECTIONS


def allow_files(settings: Settings) -> None:
    """Raises this process's limit of open files, as far as it may, to what it needs: shells and
    systemd begin with 1,024."""
    needed = needed_files(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning("few_open_files", allowed=allowed, needed=needed)


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises SettingsError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named, because asyncio disables Nagle's delay only on sockets that say that they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = f"{settings.port} on {settings.host}"
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"GATEWAY_PORT: {where} is already in use; stop what listens there or choose "
                "another port"
            ) from None
        reason = error.strerror or str(error)
        raise SettingsError(
            f"GATEWAY_HOST, GATEWAY_PORT: cannot listen on {where}: {reason}"
        ) from None
    listener.set_inheritable(True)
    return listener
