"""Events of commands: a chain of their own, signed, closed and shipped before the command ends."""

import os
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.noting import noting
from app.audit.spool.frames import Frame, FrameKind
from app.errors import Unavailable
from app.settings import Settings, SettingsError
from app.store.database import create_engine
from tests.integration.audit.replica import KEYS, TABLES, replica, tamper, verified

EVENT = Frame(FrameKind.ERASURE, orjson.dumps({"tenant": "acme", "addresses": []}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture(autouse=True)
async def empty_log(engine: AsyncEngine) -> None:
    await tamper(engine, f"TRUNCATE {TABLES}")


async def kinds(engine: AsyncEngine) -> list[FrameKind]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT kind FROM audit_events ORDER BY sequence"))
        return [FrameKind(kind) for (kind,) in rows]


async def test_an_event_is_in_the_database_with_its_chain_closed(
    engine: AsyncEngine, settings: Settings, tmp_path: Path
) -> None:
    async with noting(settings, engine, KEYS) as note:
        await note(EVENT)

    assert await kinds(engine) == [
        FrameKind.REGISTRATION,
        FrameKind.ERASURE,
        FrameKind.CHECKPOINT,
    ]
    report = await verified(engine, tmp_path / "audit", later_seconds=7200)
    assert report.findings.in_order() == []
    assert report.not_covered == []
    assert os.listdir(tmp_path / "audit") == ["checkpoints.jsonl"]


async def test_what_goes_wrong_afterwards_leaves_the_event(
    engine: AsyncEngine, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError):
        async with noting(settings, engine, KEYS) as note:
            await note(EVENT)
            raise RuntimeError

    assert FrameKind.ERASURE in await kinds(engine)
    assert (await verified(engine, tmp_path / "audit")).findings.in_order() == []


async def test_a_database_that_goes_away_is_told_and_leaves_it_to_the_next_process(
    engine: AsyncEngine, settings: Settings, tmp_path: Path
) -> None:
    away = create_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable, match="not in the database"):
        async with noting(settings, away, KEYS) as note:
            await note(EVENT)
    await away.dispose()
    assert await kinds(engine) == []
    async with replica(tmp_path / "audit", engine) as next_process:
        while FrameKind.ERASURE not in await kinds(engine):
            await next_process.shipped()

    report = await verified(engine, tmp_path / "audit")

    assert report.findings.in_order() == []
    assert report.chains == 2


async def test_a_directory_that_cannot_be_used_is_a_setting_at_fault(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="GATEWAY_AUDIT_DIRECTORY"):
        async with noting(Settings(audit_directory=tmp_path / "file"), engine, KEYS):
            pass


async def test_a_disk_that_is_full_records_nothing_and_says_so(
    engine: AsyncEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.audit.spool.disk._posix_fallocate", no_room)

    with pytest.raises(Unavailable, match="disk_full"):
        async with noting(settings, engine, KEYS) as note:
            await note(EVENT)

    assert await kinds(engine) == []
