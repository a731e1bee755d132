"""A log, and what is exported of it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.export.exporter import Exporter
from app.audit.export.formats import ExportFormat, export_file
from app.audit.export.query import ExportQuery
from app.audit.verify.export import verify_export
from app.audit.verify.findings import Report
from tests.integration.audit.replica import KEYS, TABLES, Replica, replica, tamper


async def two_chains(engine: AsyncEngine, root: Path) -> Replica:
    """Both are closed; the first one, which is given, has requests of two tenants."""
    await tamper(engine, f"TRUNCATE {TABLES}")
    async with replica(root, engine) as process:
        await process.request("req_1", said="hello from acme")
        await process.request("req_2", tenant="other", said="hello from another")
        await process.checkpoint()
        await process.request("req_3", said="goodbye from acme")
        await process.shipped()
        async with replica(root, engine) as second:
            await second.request("req_4", tenant="other", said="hello again")
    return process


async def exported(
    engine: AsyncEngine,
    path: Path,
    query: ExportQuery,
    export_format: ExportFormat = ExportFormat.JSON_LINES,
    *,
    root: Path | None = None,
) -> Path:
    """`root`: with the checkpoints of the second place there."""
    with export_file(path, export_format) as sink:
        await Exporter(engine, query, KEYS.public_keys).run(sink, _published(root))
    return path


def _published(root: Path | None) -> Iterator[bytes]:
    """Read when they are asked for, as a place is."""
    if root is not None:
        yield from (root / "checkpoints.jsonl").read_bytes().splitlines()


def verified(path: Path, **more: Any) -> Report:
    now = datetime.now(UTC).timestamp()
    return verify_export(path, KEYS.public_keys, **{"now": now, **more})


def records(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]
