"""Dropping old days: what the log says of it before it is done."""

import time
from collections.abc import Collection, Mapping
from datetime import date

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.chain import ChainHead
from app.audit.log_reader import LogReader, Part
from app.audit.partitions import last_of_chains, start_of
from app.audit.spool.frames import FrameKind
from app.audit.verify.chain import ChainVerifier
from app.audit.verify.dropped import dropped_heads
from app.audit.verify.findings import Report
from app.store.transaction import in_transaction

_MAY_DROP = text("""
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'audit_events'::regclass
""")
_EARLIER = f"""
SELECT DISTINCT writer FROM audit_events
WHERE kind = {FrameKind.RETENTION:d} AND recorded_at < $1
"""  # noqa: S608 - a number of our own


def retention_payload(before: date, chains: Mapping[str, ChainHead]) -> bytes:
    """Of the event RETENTION. `chains` are the last dropped events of each writer: where a chain
    begins from then on."""
    return orjson.dumps(
        {
            "before": before.isoformat(),
            "chains": {writer: [head.sequence, head.hash.hex()] for writer, head in chains.items()},
        }
    )


async def dropped_chains(
    engine: AsyncEngine, before: date, keys: Collection[str]
) -> dict[str, ChainHead]:
    """The last event that is gone of each writer once all before that day, in UTC, is dropped;
    nothing where nothing is. `keys` are public ones, in hexadecimal digits.

    What was dropped earlier is among it where the event that says so is dropped now: nothing else
    would excuse it, and the register never forgets a writer. So this grows as that does, by some
    110 bytes for each process there ever was. Only an event that our keys have signed is carried
    on. Raises DatabaseUnavailable.
    """
    reader = LogReader(engine, Part())
    found: dict[str, ChainHead] = {}
    for row in await reader.fetch(_EARLIER, start_of(before)):
        for writer, head in (await _stated(reader, row["writer"], keys)).items():
            found[writer] = max(head, found.get(writer, head))
    return found | await last_of_chains(engine, before)


async def may_drop(engine: AsyncEngine) -> bool:
    """Whether we own the tables. Raises DatabaseUnavailable."""

    async def step(connection: AsyncConnection) -> bool:
        return bool(await connection.scalar(_MAY_DROP))

    return await in_transaction(engine, step)


async def _stated(reader: LogReader, writer: str, keys: Collection[str]) -> dict[str, ChainHead]:
    """By the events RETENTION of that chain, as far as it is signed. It is a command's: some four
    events."""
    chain = ChainVerifier(writer, keys, iter(()), Report())
    async for events in reader.events(writer):
        for event in events:
            chain.feed(event)
        chain.references.clear()
    ended = chain.end(time.time())  # noqa: TID251 - compared with dates of records
    stated: dict[str, ChainHead] = {}
    for noted in ended.noted:
        if noted.event.kind == FrameKind.RETENTION and noted.event.sequence <= ended.covered:
            stated |= dropped_heads(noted.values)
    return stated
