"""The messages in Postgres: is each what its address says, and is the one before it there?"""

from collections.abc import Callable
from datetime import date, timedelta

from app.audit.content.nodes import ROOT
from app.audit.log_reader import LogReader
from app.audit.message_pages import MessagePages, MessageRow
from app.audit.verify.verifier import Verifier


async def verify_messages(
    reader: LogReader,
    verifier: Verifier,
    days: tuple[date, date],
    progress: Callable[[int], None],
) -> None:
    """Those that were stored on `days`, both included. Raises DatabaseUnavailable."""
    pages = MessagePages(reader, days)
    partitions = await pages.partitions()
    oldest = min((each.day for each in partitions if each.day), default=date.min)
    for partition in partitions:
        async for rows in pages.of(partition):
            for row in rows:
                verifier.message(row.stored_on, row.message)
            # Of the oldest day that there is, those before them may be gone.
            await _look_for_parents(reader, verifier, [r for r in rows if r.stored_on > oldest])
            progress(len(rows))


async def _look_for_parents(reader: LogReader, verifier: Verifier, rows: list[MessageRow]) -> None:
    there = {(row.message.tenant, row.message.address) for row in rows}
    wanted = [
        row
        for row in rows
        if row.message.parent != ROOT and (row.message.tenant, row.message.parent) not in there
    ]
    # Each day has what its requests refer to; those near midnight may use the day before's. An
    # answer that a process left behind is stored on the day on which it is recovered, which may
    # come long after that of its question.
    if wanted:
        days = [row.stored_on for row in wanted]
        near = min(days) - timedelta(days=1), max(days) + timedelta(days=1)
        wanted = await _without(reader, wanted, near)
    if wanted:
        wanted = await _without(reader, wanted, (date.min, date.max))
    for message in (row.message for row in wanted):
        verifier.missing_parent(message.tenant, message.parent, message.address)


async def _without(
    reader: LogReader, rows: list[MessageRow], days: tuple[date, date]
) -> list[MessageRow]:
    """Those whose parents no row of these days is."""
    parents = [(row.message.tenant, row.message.parent) for row in rows]
    return [rows[place] for place in await reader.missing_messages(parents, *days)]
