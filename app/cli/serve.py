"""`gateway serve`: the production server."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
import structlog

from app.audit.start import check_spool
from app.cli.database import unreachable
from app.cli.errors import BadUsage, CommandError
from app.known_secrets import remember_all
from app.main import create_app
from app.processes import Processes
from app.serve import GatewayServer, allow_files, bind
from app.settings import Settings, SettingsError, load_settings, unknown_variables
from app.store.database import create_engine
from app.store.schema import schema_state
from app.store.transaction import DatabaseUnavailable
from app.telemetry.logs import configure_logging

log = structlog.get_logger()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Until the server takes the signal over. The first process of a container has no default for
    it: a stop that comes too soon would be lost, and the container killed at the end of its time.
    """

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command()
@click.option("--host", help="Address to listen on.  [GATEWAY_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [GATEWAY_PORT]")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True)
@_ended_by_sigterm()
def serve(host: str | None, port: int | None, processes: int) -> None:
    """Serve, with a database and workers that are already there.

    Logs JSON lines to standard output. Never migrates the database: `gateway db upgrade` does.
    """
    try:
        settings = load_settings(host=host, port=port)
        if "replicas" not in settings.model_fields_set:
            settings = settings.model_copy(update={"replicas": processes})
        create_app(settings)  # complains of what is missing
        check_spool(settings)
        asyncio.run(_check_database(settings))
        listener = bind(settings)
    except SettingsError as error:
        raise BadUsage(str(error)) from None
    except DatabaseUnavailable as error:
        raise CommandError(unreachable(error)) from None
    if processes == 1:
        serve_one(settings, listener)
    else:
        configure_logging(settings.log_level)
        arguments = (settings, listener, os.getpid())
        sys.exit(Processes(serve_one, arguments, processes).run())


def serve_one(settings: Settings, listener: socket.socket, parent_pid: int | None = None) -> None:
    """Runs one server process on a listening socket, to its end."""
    remember_all(settings)
    configure_logging(
        settings.log_level,
        sample_ratio=settings.log_sample_ratio,
        slow_seconds=settings.log_slow_seconds,
    )
    if parent_pid is not None:
        os.setpgrp()  # signals come from the parent alone, not from its terminal too
    for variable in unknown_variables():
        log.warning("unknown_setting", variable=variable)
    allow_files(settings)
    server = GatewayServer(create_app(settings), settings, parent_pid=parent_pid)
    try:
        server.run(sockets=[listener])
    except Exception:  # told by its place: Python would print its words, multiprocessing as well
        log.critical("process_crashed", exc_info=True)
        sys.exit(1)


async def _check_database(settings: Settings) -> None:
    assert settings.database_url is not None  # noqa: S101 - create_app has seen to it
    engine = create_engine(settings.database_url.get_secret_value())
    try:
        complaint = (await schema_state(engine)).complaint
        if complaint is not None:
            raise CommandError(complaint)
    finally:
        await engine.dispose()
