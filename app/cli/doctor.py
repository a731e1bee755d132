"""`gateway doctor`: what is wrong with a deployment, and what to change."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
import orjson
import structlog
from structlog.typing import EventDict

from app.cli.errors import BadUsage
from app.cli.json_option import as_json, ascii_json
from app.cli.table import cell, table
from app.doctor.examine import examine
from app.doctor.finding import Finding, Status
from app.doctor.visit import CHECK_SECONDS, Visit
from app.settings import SettingsError, load_settings

EXIT_FAILED = 1
HEAD = ("CHECK", "STATUS", "FOUND")
SUM = {
    Status.FAILED: "failed",
    Status.WARNING: "with a warning",
    Status.OK: "well",
    Status.SKIPPED: "skipped",
}


@click.command()
@click.option(
    "--timeout",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=CHECK_SECONDS,
    show_default=True,
    help="For each check. A worker's answers have GATEWAY_WORKER_CHECK_SECONDS.",
)
@click.option(
    "--no-worker-questions",
    is_flag=True,
    help="Ask workers nothing that costs them an answer.",
)
@click.option("--strict", is_flag=True, help="Warnings are failures.")
@as_json
def doctor(*, seconds: float, no_worker_questions: bool, strict: bool, as_json: bool) -> None:
    """Examine the settings, this machine, the database, Redis, the workers, the spool and the
    filter rules, and say what to change. Nothing that is there is
    changed.

    Run it where the gateway runs, with its settings and as its user. Ends with 0 where nothing
    failed, 1 where something did, 2 where the settings cannot be read.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        raise BadUsage("\n".join(error.faults)) from None
    visit = Visit(
        settings,
        time.time,  # noqa: TID251 - compared with the clocks of others
        seconds=seconds,
        asks_workers=not no_worker_questions,
    )
    with _without_logs():
        findings = asyncio.run(examine(visit))
    for line in _json_lines(findings) if as_json else _lines(findings):
        click.echo(line)
    bad = {Status.FAILED, Status.WARNING} if strict else {Status.FAILED}
    if any(finding.status in bad for finding in findings):
        raise click.exceptions.Exit(EXIT_FAILED)


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    rows = [(finding.check, finding.status.value, finding.found) for finding in findings]
    head, *lines = table(HEAD, rows).splitlines()
    yield head
    # Below what was found, as a cell of its own would be too wide for a terminal.
    indent = " " * head.index(HEAD[2])
    for finding, line in zip(findings, lines, strict=True):
        yield line
        if finding.advice is not None:
            yield f"{indent}-> {cell(finding.advice)}"
    counts = Counter(finding.status for finding in findings)
    yield ""
    yield ", ".join(f"{counts[status]} {words}" for status, words in SUM.items() if counts[status])


def _json_lines(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        document = {
            "object": "doctor.finding",
            "check": finding.check,
            "status": finding.status,
            "found": finding.found,
            "advice": finding.advice,
        }
        yield ascii_json(orjson.dumps(document))


@contextmanager
def _without_logs() -> Iterator[None]:
    """What the parts of a gateway would log of what they meet is in the findings."""
    kept = structlog.get_config()
    structlog.configure(processors=[_drop])
    try:
        yield
    finally:
        structlog.configure(**kept)


def _drop(logger: object, method: str, event: EventDict) -> EventDict:
    raise structlog.DropEvent
