"""A gateway starts while the log is verified, or exported: it is accused of nothing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.export.query import ExportQuery
from app.audit.log_reader import LogReader, Part
from app.audit.part_reader import PartReader
from app.audit.register import register_head
from tests.integration.audit.exporting import exported, two_chains
from tests.integration.audit.exporting import verified as verified_export
from tests.integration.audit.replica import TABLES, WHOLE, Replica, replica, tamper, verified

LAST_DAYS = Part(since=datetime.now(UTC) - timedelta(days=7))


@pytest.fixture
async def root(engine: AsyncEngine, tmp_path: Path) -> Path:
    root = tmp_path / "audit"
    await two_chains(engine, root)
    return root


def starts_one(
    monkeypatch: pytest.MonkeyPatch, engine: AsyncEngine, root: Path, reader: type, name: str
) -> None:
    """Once that method of the reader has been answered for the first time, a gateway starts, has a
    request and ends."""
    read = getattr(reader, name)
    started = []

    async def read_and_start(self: object) -> object:
        found = await read(self)
        if not started:
            started.append(True)
            async with replica(root, engine) as process:
                await process.request("req_new")
                await process.checkpoint()
        return found

    monkeypatch.setattr(reader, name, read_and_start)


@pytest.mark.parametrize("part", [WHOLE, LAST_DAYS], ids=["whole", "part"])
async def test_between_the_list_of_chains_and_the_register(
    part: Part, engine: AsyncEngine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts_one(monkeypatch, engine, root, PartReader, "writers")
    assert (await verified(engine, root, part=part)).findings.in_order() == []


@pytest.mark.parametrize(("reader", "name"), [(PartReader, "writers"), (LogReader, "register")])
async def test_while_an_export_begins(
    reader: type,
    name: str,
    engine: AsyncEngine,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts_one(monkeypatch, engine, root, reader, name)
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE), root=root)
    a_day_later = datetime.now(UTC).timestamp() + 86_400
    assert verified_export(path, now=a_day_later).findings.in_order() == []


async def test_a_row_of_the_register_that_is_signed_while_an_export_runs_is_in_it(
    engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "audit"
    await tamper(engine, f"TRUNCATE {TABLES}")
    async with replica(root, engine) as witness:
        await witness.request("req_1")
        await witness.shipped()
        _witnesses(monkeypatch, engine, root, witness)
        path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE))
    assert verified_export(path).findings.in_order() == []


def _witnesses(
    monkeypatch: pytest.MonkeyPatch, engine: AsyncEngine, root: Path, witness: Replica
) -> None:
    """Once the register was read, a gateway starts, and `witness` signs that it is there."""
    read = LogReader.register
    started = []

    async def read_and_start(self: LogReader) -> object:
        found = await read(self)
        if not started:
            started.append(True)
            async with replica(root, engine) as process:
                await process.request("req_new")
            # As the shipper's upkeep does it now and then.
            witness.shipper._upkeep.register_head = await register_head(engine)
            await witness.checkpoint()
            await witness.shipped()
        return found

    monkeypatch.setattr(LogReader, "register", read_and_start)
