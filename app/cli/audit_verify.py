"""`gateway audit verify`: was the log changed?"""

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.places import checkpoint_file
from app.audit.export.parquet import ParquetMissing
from app.audit.export.records import ExportUnreadable
from app.audit.log_reader import LogReader, Part
from app.audit.start import spool_root
from app.audit.verify.database import DatabaseVerification
from app.audit.verify.export import verify_export
from app.audit.verify.findings import Report
from app.audit.verify.published import PublishedCheckpoints
from app.cli.audit_findings import summary
from app.cli.audit_keys import PublicKey, command_signing_keys
from app.cli.database import on_database
from app.cli.errors import BadUsage, CommandError
from app.cli.moments import moment
from app.cli.progress import progress
from app.settings import Settings

FOUND = 1  # what the process ends with; 2 where nothing could be verified


@dataclass(frozen=True, slots=True)
class _Wanted:
    part: Part
    content: bool
    keys: Collection[str]
    checkpoints: Path | None


@click.command()
@click.option("--since", type=moment, help="What was recorded since then.")
@click.option("--until", type=moment, help="What was recorded before then.")
@click.option(
    "--without-content", is_flag=True, help="Leave out the messages, which take the longest."
)
@click.option(
    "--checkpoints",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The second place of the checkpoints.  [default: the file of GATEWAY_AUDIT_CHECKPOINTS]",
)
@click.option(
    "--public-key",
    "public_keys",
    type=PublicKey(),
    multiple=True,
    help="A key that signs the checkpoints.  [default: those that the settings give]",
)
@click.option(
    "--export",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Verify what `gateway audit export` wrote; no database and no secret is needed.",
)
def verify(
    *,
    since: datetime | None,
    until: datetime | None,
    without_content: bool,
    checkpoints: Path | None,
    public_keys: tuple[str, ...],
    export: Path | None,
) -> None:
    """Compute the log's hashes anew, and compare them with what was signed.

    Ends with 0 where nothing was changed, with 1 where something was, and with 2 where that could
    not be told.
    """
    wanted = _Wanted(Part(since, until), not without_content, public_keys, checkpoints)
    try:
        if export is not None:
            report = _verify_export(export, wanted)
        else:
            report = on_database(lambda engine, settings: _verify(engine, settings, wanted))
    except (CommandError, OSError, ExportUnreadable, ParquetMissing) as error:
        raise BadUsage(str(error)) from None  # ends with 2: nothing was verified
    click.echo(summary(report))
    if not report.clean:
        raise SystemExit(FOUND)


async def _verify(engine: AsyncEngine, settings: Settings, wanted: _Wanted) -> Report:
    keys = wanted.keys or command_signing_keys(settings).public_keys
    report = Report()
    path = wanted.checkpoints or _second_place(settings, report)
    with ExitStack() as stack:
        file = None if path is None else stack.enter_context(path.open("rb"))
        published = PublishedCheckpoints(file, keys, report, str(path))
        size = await LogReader(engine, wanted.part).size()
        told = stack.enter_context(progress("Verifying", size))
        return await DatabaseVerification(
            engine,
            keys,
            published,
            report,
            now=time.time(),  # noqa: TID251 - compared with dates of records
            part=wanted.part,
            content=wanted.content,
            progress=told,
        ).run()


def _second_place(settings: Settings, report: Report) -> Path | None:
    path = checkpoint_file(settings.audit_checkpoints, spool_root(settings))
    if path is not None and path.is_file():
        return path
    why = "it is not a file here" if path is None else f"there is no {path}"
    report.notes.append(
        f"The second place was not looked at ({why}): that the end of a chain is missing is then "
        "told by other chains alone. Give a copy of it with --checkpoints."
    )
    return None


def _verify_export(path: Path, wanted: _Wanted) -> Report:
    if not wanted.keys:
        raise CommandError("give the key that signs the checkpoints: --public-key")
    if not wanted.part.whole:
        raise CommandError("an export is verified whole: leave out --since and --until")
    with progress("Verifying", path.stat().st_size) as told:
        return verify_export(
            path,
            wanted.keys,
            now=time.time(),  # noqa: TID251 - compared with dates of records
            checkpoints=wanted.checkpoints,
            content=wanted.content,
            progress=told,
        )
