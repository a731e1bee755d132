"""`gateway audit export`: the log, or a part of it, into a file."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.places import checkpoint_file
from app.audit.export.exporter import Exporter
from app.audit.export.formats import ExportFormat, export_file, format_of
from app.audit.export.parquet import ParquetMissing
from app.audit.export.query import ExportQuery
from app.audit.export.records import End
from app.audit.log_reader import LogReader, Part
from app.audit.start import spool_root
from app.audit.verify.published import MAX_LINE_BYTES, parsed_line
from app.cli.audit_findings import counted
from app.cli.audit_keys import command_signing_keys
from app.cli.database import on_database
from app.cli.errors import BadUsage, CommandError
from app.cli.moments import moment
from app.cli.progress import progress
from app.settings import Settings


@click.command()
@click.option("--since", type=moment, help="What was recorded since then.")
@click.option("--until", type=moment, help="What was recorded before then.")
@click.option("--tenant", help="Requests of this tenant; of all others only the hashes.")
@click.option(
    "--key", "key_id", metavar="ID", help="Requests made with this key; of others only the hashes."
)
@click.option("--with-content", is_flag=True, help="What was asked and answered, too.")
@click.option(
    "--format",
    "export_format",
    type=click.Choice([each.value for each in ExportFormat]),
    help="[default: by the end of the file's name, else jsonl]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Where to; a file that is there is left alone.",
)
def export(
    *,
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
    key_id: str | None,
    with_content: bool,
    export_format: str | None,
    output: Path,
) -> None:
    """Write the log, or a part of it, to a file that anybody can verify who has the public key:

    gateway audit verify --export FILE --public-key HEX
    """
    if str(output) == "-":
        raise BadUsage("give a file: an export does not go to standard output")
    query = ExportQuery(Part(since, until), tenant, key_id, with_content)
    form = ExportFormat(export_format) if export_format else format_of(output)

    async def step(engine: AsyncEngine, settings: Settings) -> End:
        keys = command_signing_keys(settings).public_keys
        with ExitStack() as stack:
            sink = stack.enter_context(export_file(output, form))
            size = await LogReader(engine, query.part).size()
            told = stack.enter_context(progress("Exporting", size))
            exporter = Exporter(engine, query, keys, told)
            return await exporter.run(sink, _published(settings, since))

    try:
        end = on_database(step)
    except (OSError, ParquetMissing) as error:
        raise CommandError(str(error)) from None
    click.echo(
        f"{output}: {counted(end.events, 'event')}, {counted(end.messages, 'message')}, "
        f"{counted(end.checkpoints, 'checkpoint')} of the second place, "
        f"{counted(end.register, 'row')} of the register"
    )


def _published(settings: Settings, since: datetime | None) -> Iterator[bytes]:
    """What the second place has, where that is a file here."""
    path = checkpoint_file(settings.audit_checkpoints, spool_root(settings))
    if path is None or not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            checkpoint = parsed_line(line)
            if checkpoint is not None and (since is None or checkpoint.at >= since):
                yield checkpoint.payload
