"""A proxy before Postgres that cuts a connection at its COMMIT: before the server has got it, or
before the client has got the answer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from pathlib import Path

from sqlalchemy.engine import URL, make_url

COMMIT = b"COMMIT;"  # as asyncpg sends it, in a message of its own
PIECE_BYTES = 64 * 1024


class Cut(Enum):
    """Where the connection is cut. The client sees the same."""

    BEFORE_COMMIT = auto()
    AFTER_COMMIT = auto()


class _Severed(Exception):
    pass


class PostgresProxy:
    """`cuts` says what becomes of the next commits; those after them pass."""

    def __init__(self, upstream: URL) -> None:
        self._upstream = upstream
        self.cuts: deque[Cut] = deque()
        self.commits = 0  # that the server has answered

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        server_reader, server_writer = await self._connect()
        answered = asyncio.Event()
        try:
            with suppress(OSError):  # either side may break off
                await self._relay(reader, writer, server_reader, server_writer, answered)
        finally:
            for each in (writer, server_writer):
                each.close()
                with suppress(OSError):  # it is closed already
                    await each.wait_closed()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        answered: asyncio.Event,
    ) -> None:
        cut = False

        async def requests() -> None:
            nonlocal cut
            while piece := await reader.read(PIECE_BYTES):
                if COMMIT in piece and self.cuts:
                    if self.cuts.popleft() is Cut.BEFORE_COMMIT:
                        raise _Severed
                    cut = True
                server_writer.write(piece)
                await server_writer.drain()
            raise _Severed

        async def answers() -> None:
            while piece := await server_reader.read(PIECE_BYTES):
                self.commits += piece.count(b"COMMIT\0")
                if cut:
                    raise _Severed
                writer.write(piece)
                await writer.drain()
            raise _Severed

        with suppress(_Severed):  # the way out of the group
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(requests())
                    group.create_task(answers())
            except* _Severed:
                pass

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self._upstream.port or 5432
        host = self._upstream.host or str(self._upstream.query["host"])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
        return await asyncio.open_connection(host, port)


@asynccontextmanager
async def postgres_proxy(url: str) -> AsyncIterator[tuple[PostgresProxy, str]]:
    """Before the server of `url`; and the URL of the same database through it."""
    upstream = make_url(url)
    proxy = PostgresProxy(upstream)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        through = upstream.set(host="127.0.0.1", port=port, query={})
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
