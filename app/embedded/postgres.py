"""PostgreSQL from a wheel, for a machine that has none: data under the gateway's home, a Unix
socket and no port.

All processes with the same home share one server: whoever comes first starts it, and whoever leaves
last stops it, also where the first one was killed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from app.embedded.cluster import PORT, START_SECONDS, SUPERUSER, Cluster, Server
from app.embedded.cluster_lock import ClusterLock
from app.embedded.errors import EmbeddedError

DIRECTORY = "postgres"
POLL_SECONDS = 0.05


@asynccontextmanager
async def embedded_postgres(home: Path) -> AsyncIterator[str]:
    """The SQLAlchemy URL of a server that answers. Raises EmbeddedError."""
    cluster = Cluster(_absolute(home) / DIRECTORY)
    lock = ClusterLock(home)
    try:
        async with lock.turn():
            user = lock.join()
            try:
                server = await _running(cluster)
            except BaseException:  # cancellation too: the lock is this one's to give back
                user.close()
                raise
    except OSError as error:
        raise EmbeddedError(f"cannot keep a database under {home}: {error.strerror}") from error
    try:
        yield _url(server)
    finally:
        with user:
            async with lock.turn():
                if lock.is_last(user) and cluster.running() is not None:
                    await cluster.stop()


def _absolute(home: Path) -> Path:
    """Also made: sockets and servers are named by paths that hold from any directory."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        return home.resolve()
    except OSError as error:
        raise EmbeddedError(f"cannot keep a database under {home}: {error.strerror}") from error


async def _running(cluster: Cluster) -> Server:
    await cluster.create()
    server = cluster.running()
    if server is None:
        return await cluster.start()
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(server):  # someone else's start was cut short
                await asyncio.sleep(POLL_SECONDS)
                server = cluster.running() or await cluster.start()
    except TimeoutError:
        raise EmbeddedError(
            f"the embedded database (process {server.pid}) runs but does not answer: end it"
        ) from None
    return server


async def _answers(server: Server) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(_socket(server))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    return True


def _socket(server: Server) -> str:
    return f"{server.socket_directory}/.s.PGSQL.{PORT}"


def _url(server: Server) -> str:
    directory = quote(server.socket_directory, safe="")
    return f"postgresql+asyncpg://{SUPERUSER}@/postgres?host={directory}&port={PORT}"
