"""What is exported can be verified by a stranger, and tells nothing of those it is not about."""

import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.erasure import erase
from app.audit.export.formats import ExportFormat, export_file, read_export
from app.audit.export.query import ExportQuery
from app.audit.export.records import ExportedMessage, ExportUnreadable
from app.audit.log_reader import Part
from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from tests.integration.audit.exporting import exported, records, two_chains, verified
from tests.integration.audit.replica import TABLES, WHOLE, Replica, replica, tamper


@pytest.fixture
async def log(engine: AsyncEngine, tmp_path: Path) -> Replica:
    return await two_chains(engine, tmp_path / "audit")


EVENTS = 1 + 2 + 2 + 1 + 2 + 1 + 4


@pytest.mark.parametrize("export_format", ExportFormat)
@pytest.mark.usefixtures("log")
async def test_a_whole_log_is_verified_without_the_database(
    engine: AsyncEngine, tmp_path: Path, export_format: ExportFormat
) -> None:
    query = ExportQuery(WHOLE, content=True)
    path = await exported(engine, tmp_path / "log", query, export_format, root=tmp_path / "audit")

    report = verified(path)

    assert report.findings.in_order() == []
    assert report.notes == []
    assert (report.chains, report.events, report.register_rows) == (2, EVENTS, 2)
    assert report.messages == 1 + 1 + 2 * 4  # an envelope of each tenant, and of each request two
    assert report.checkpoints == 2 * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["audit", "log"]


@pytest.mark.usefixtures("log")
async def test_without_content_no_text_of_anybody_is_in_it(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE))

    assert b"hello" not in path.read_bytes()
    report = verified(path)
    assert report.findings.in_order() == []
    assert "messages were not verified" in report.notes[0]


@pytest.mark.parametrize("export_format", [ExportFormat.JSON_LINES, ExportFormat.PARQUET])
@pytest.mark.parametrize(
    "query",
    [
        ExportQuery(WHOLE, tenant="acme", content=True),
        ExportQuery(WHOLE, key_id="key_acme", content=True),
        ExportQuery(WHOLE, tenant="acme", key_id="key_acme", content=True),
    ],
    ids=["tenant", "key", "both"],
)
@pytest.mark.usefixtures("log")
async def test_of_others_only_hashes_are_in_it_and_the_chain_is_whole(
    engine: AsyncEngine, tmp_path: Path, query: ExportQuery, export_format: ExportFormat
) -> None:
    path = await exported(engine, tmp_path / "log", query, export_format)

    report = verified(path)

    assert report.findings.in_order() == []
    assert (report.events, report.messages) == (EVENTS, 1 + 2 * 2)
    assert report.checkpoints == 3
    shown = b"".join(
        each.message.body
        for each in read_export(path, _ignored)
        if isinstance(each, ExportedMessage)
    )
    assert b"goodbye from acme" in shown
    assert b"another" not in shown
    if export_format is ExportFormat.JSON_LINES:
        hidden = [each for each in records(path) if "payload_sha256" in each]
        assert [each["kind"] for each in hidden] == [1, 2, 1, 2]
        assert b"req_2" not in path.read_bytes()
        assert b"other" not in path.read_bytes()


def _ignored(count: int) -> None:
    pass


async def test_what_was_erased_is_not_in_it_and_missed_by_nobody(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    root = tmp_path / "audit"
    await tamper(engine, f"TRUNCATE {TABLES}")
    async with replica(root, engine) as process:
        await process.request("req_1", said="a secret")
        address = process.addresses["req_1"]["prompt"]
        erasure = {"tenant": "acme", "addresses": [address], "reason": "asked for", "by": "me"}
        await process.note(FrameKind.ERASURE, erasure)
        of_another = erasure | {"tenant": "other", "reason": "asked for by Jane Roe"}
        await process.note(FrameKind.ERASURE, of_another)
        await process.shipped()
        await erase(engine, "acme", [bytes.fromhex(address)])

    for name, query in {
        "whole": ExportQuery(WHOLE, content=True),
        "tenant": ExportQuery(WHOLE, tenant="acme", content=True),
        "key": ExportQuery(WHOLE, key_id="key_acme", content=True),
    }.items():
        path = await exported(engine, tmp_path / name, query)
        assert verified(path).findings.in_order() == []
        [erased] = [each for each in records(path) if each.get("erased")]
        assert erased["address"] == address
        assert (b"Jane Roe" in path.read_bytes()) == (name == "whole")


Edit = Callable[[list[dict[str, Any]]], object]


def event(number: int) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    return lambda lines: [each for each in lines if each["type"] == "event"][number]


EDITS: dict[str, tuple[Edit, Problem]] = {
    "payload": (
        lambda lines: event(2)(lines).update(payload="{}"),
        Problem.CHANGED,
    ),
    "time": (
        lambda lines: event(2)(lines).update(recorded_at="2026-01-01T00:00:00.000000+00:00"),
        Problem.CHANGED,
    ),
    "hash": (lambda lines: event(2)(lines).update(hash="00" * 32), Problem.HASH_CHANGED),
    "register": (
        lambda lines: next(each for each in lines if each["type"] == "register").update(entry="{}"),
        Problem.REGISTER,
    ),
    "message": (
        lambda lines: next(each for each in lines if "body" in each).update(body="{}"),
        Problem.MESSAGE_CHANGED,
    ),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.usefixtures("log")
async def test_an_edit_of_the_file_is_found(engine: AsyncEngine, tmp_path: Path, edit: str) -> None:
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE, content=True))
    lines = records(path)
    change, problem = EDITS[edit]

    change(lines)
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))

    assert problem in {each.problem for each in verified(path).findings.in_order()}


@pytest.mark.usefixtures("log")
async def test_events_and_messages_that_are_left_out_are_found(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE, content=True))
    lines = records(path)
    lines.remove(event(2)(lines))
    lines.remove(next(each for each in lines if each["type"] == "message"))
    lines[-1]["events"] -= 1
    lines[-1]["messages"] -= 1
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))

    problems = {each.problem for each in verified(path).findings.in_order()}

    assert {Problem.MISSING, Problem.MESSAGE_MISSING} <= problems


@pytest.mark.usefixtures("log")
async def test_an_end_that_was_cut_off_is_found_by_a_second_place_of_ones_own(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    path = await exported(engine, tmp_path / "log.jsonl", ExportQuery(WHOLE))
    lines = records(path)
    cut = [each for each in lines if each["type"] != "event" or each["sequence"] < 5]
    cut[-1]["events"] = sum(1 for each in cut if each["type"] == "event")
    for each in cut:
        if each["type"] == "manifest":
            each["shipped"] = {}
    path.write_bytes(b"\n".join(map(orjson.dumps, cut)))

    report = verified(path, checkpoints=tmp_path / "audit" / "checkpoints.jsonl")

    assert Problem.CUT in {each.problem for each in report.findings.in_order()}


@pytest.mark.parametrize("export_format", ExportFormat)
@pytest.mark.usefixtures("log")
async def test_a_file_that_is_cut_off_is_none(
    engine: AsyncEngine, tmp_path: Path, export_format: ExportFormat
) -> None:
    path = await exported(engine, tmp_path / "log", ExportQuery(WHOLE, content=True), export_format)
    whole = path.read_bytes()

    for size in (0, 1, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(ExportUnreadable):
            verified(path)


@pytest.mark.usefixtures("log")
async def test_a_bomb_is_no_export(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as stream:
        for _ in range(600):
            stream.write(bytes(1024 * 1024))

    with pytest.raises(ExportUnreadable, match="a line of more than"):
        verified(path)


@pytest.mark.usefixtures("log")
async def test_what_goes_wrong_leaves_no_file(engine: AsyncEngine, tmp_path: Path) -> None:
    query = ExportQuery(Part(until=datetime.now(UTC) + timedelta(days=1)))
    there = tmp_path / "there.jsonl"
    there.write_text("mine")

    with pytest.raises(FileExistsError):
        await exported(engine, there, query)
    with pytest.raises(RuntimeError), export_file(tmp_path / "log", ExportFormat.PARQUET):
        raise RuntimeError

    assert there.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["audit", "there.jsonl"]
