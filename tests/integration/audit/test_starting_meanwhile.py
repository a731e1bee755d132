"""A gateway starts while the log is verified, or exported: it is accused of nothing."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.export.query import ExportQuery
from app.audit.log_reader import LogReader, Part
from app.audit.part_reader import PartReader
from app.audit.register import register_head
from tests.integration.audit.exporting import exported, two_chains
from tests.integration.audit.exporting import verified as verified_export
from tests.integration.audit.replica import TABLES, WHOLE, replica, tamper, verified

LAST_DAYS = Part(since=datetime.now(UTC) - timedelta(days=7))


@pytest.fixture
async def root(engine: AsyncEngine, tmp_path: Path) -> Path:
    root = tmp_path / "audit"
    await two_chains(engine, root)
    return root


def after_first(
    monkeypatch: pytest.MonkeyPatch, reader: type, name: str, step: Callable[[], Awaitable[None]]
) -> None:
    """Once that method of the reader has been answered for the first time, `step` is done."""
    read = getattr(reader, name)
    done = []

    async def read_and_do(self: object) -> object:
        found = await read(self)
        if not done:
            done.append(True)
            await step()
        return found

    monkeypatch.setattr(reader, name, read_and_do)


async def one_comes_and_goes(engine: AsyncEngine, root: Path) -> None:
    async with replica(root, engine) as process:
        await process.request("req_new")
        await process.checkpoint()


@pytest.mark.parametrize("part", [WHOLE, LAST_DAYS], ids=["whole", "part"])
async def test_between_the_list_of_chains_and_the_register(
    part: Part, engine: AsyncEngine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_first(monkeypatch, PartReader, "writers", partial(one_comes_and_goes, engine, root))
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
    after_first(monkeypatch, reader, name, partial(one_comes_and_goes, engine, root))
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

        async def one_is_witnessed() -> None:
            await one_comes_and_goes(engine, root)
            # As the shipper's upkeep does it now and then.
            witness.shipper._upkeep.register_head = await register_head(engine)
            await witness.checkpoint()
            await witness.shipped()

        after_first(monkeypatch, LogReader, "register", one_is_witnessed)
        path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE))
    assert verified_export(path).findings.in_order() == []
