"""The register of writers: `audit_register`, each row with the hash of the one before it.

A row is made in the transaction that stores a writer's first event. It says where the database had
the chains of the others then, so that whoever cuts one of them, or takes it away, contradicts it;
and the checkpoints of all sign the newest row that they know.
"""

from hashlib import sha256

import orjson
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.chain import ChainHead
from app.audit.stored import moment_of
from app.store.tables import audit_register, audit_spool_offsets

# Of 64 bits, shared with nobody: whoever adds a row waits for whoever does.
ADVISORY_LOCK = 0x717779_61726567

RegisterHead = tuple[int, bytes]  # the number and the hash of the newest row

_column = audit_register.c
_NEWEST = select(_column.number, _column.hash).order_by(_column.number.desc()).limit(1)


async def register_head(engine: AsyncEngine) -> RegisterHead | None:
    """None where it is empty. Raises what the database's absence raises."""
    async with engine.connect() as connection:
        return await _newest(connection)


async def register(
    connection: AsyncConnection, writer: str, registration: ChainHead, at: int
) -> RegisterHead | None:
    """A row for the writer, last thing in the connection's transaction: what it locks, others wait
    for. None where it has one: a database that was set back is given what the spool still has.

    `registration` is the chain with the event that registers it, which was recorded at `at`, in
    microseconds since the epoch.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
    known = select(_column.number).where(_column.writer == writer)
    if await connection.scalar(known) is not None:
        return None
    number, previous = await _newest(connection) or (0, None)
    entry = orjson.dumps(
        {
            "number": number + 1,
            "writer": writer,
            "registration": registration.hash.hex(),
            "previous": None if previous is None else previous.hex(),
            "witnessed": await _witnessed(connection, writer),
        },
        option=orjson.OPT_SORT_KEYS,
    )
    head = (number + 1, sha256(entry).digest())
    await connection.execute(
        insert(audit_register).values(
            number=head[0], writer=writer, registered_at=moment_of(at), entry=entry, hash=head[1]
        )
    )
    return head


async def _newest(connection: AsyncConnection) -> RegisterHead | None:
    row = (await connection.execute(_NEWEST)).first()
    return None if row is None else (row.number, row.hash)


async def _witnessed(connection: AsyncConnection, writer: str) -> dict[str, tuple[int, str]]:
    """How far the chains of the others are shipped."""
    others = audit_spool_offsets.c
    rows = await connection.execute(
        select(others.writer, others.sequence, others.hash).where(
            others.writer != writer, others.sequence > 0, others.hash.is_not(None)
        )
    )
    return {row.writer: (row.sequence, row.hash.hex()) for row in rows}
